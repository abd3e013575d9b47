"""Typed configuration: one TOML file, overridden by ``DICOM_NODE_SECTION__KEY`` variables, read once.

An unknown key or a bad value is refused at start with its path and what is permitted.
"""

from dicom_node.settings.analysis import Analysis, Match, Pipeline, Remote, installed_models
from dicom_node.settings.database import Database
from dicom_node.settings.destinations import (
    AnyDestination,
    Destination,
    DestinationTLS,
    Outgoing,
    WebDestination,
)
from dicom_node.settings.document import Logging, Settings, Site, load_settings
from dicom_node.settings.fields import Secret, WebService, wrong_ae_title
from dicom_node.settings.operate import Audit, Mail, Notification, Operate, Syslog, Webhook
from dicom_node.settings.receive import CalledAE, Completion, Receive, ReceiveTLS, Retention
from dicom_node.settings.web import OIDC, Login, Web

__all__ = [
    "OIDC",
    "Analysis",
    "AnyDestination",
    "Audit",
    "CalledAE",
    "Completion",
    "Database",
    "Destination",
    "DestinationTLS",
    "Logging",
    "Login",
    "Mail",
    "Match",
    "Notification",
    "Operate",
    "Outgoing",
    "Pipeline",
    "Receive",
    "ReceiveTLS",
    "Remote",
    "Retention",
    "Secret",
    "Settings",
    "Site",
    "Syslog",
    "Web",
    "WebDestination",
    "WebService",
    "Webhook",
    "installed_models",
    "load_settings",
    "wrong_ae_title",
]
