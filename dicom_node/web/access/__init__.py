"""Who may reach the page and the API, who they are, and what they may do.

=============  ===================================================================
``addresses``  which hosts are this machine, which names the page answers to
``proxy``      what a stated reverse proxy says of a request, and nobody else
``guard``      no other site's scripts; security headers
``gate``       a request's visitor, by session or token, before its body is read
``roles``      what each route needs
``desk``       logs in and out
=============  ===================================================================
"""
