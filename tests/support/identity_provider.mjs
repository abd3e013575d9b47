// A real OpenID Connect provider (npm oidc-provider, certified), with its development login: any name, any password.
// The groups of a user are what stands before the @ of the name: "radiology@anna" is in the group radiology.
import Provider from "oidc-provider";

const [port, clientId, secret, groups, back] = process.argv.slice(2);
const issuer = `http://localhost:${port}`;

const provider = new Provider(issuer, {
  clients: [{ client_id: clientId, client_secret: secret, redirect_uris: [back], id_token_signed_response_alg: "RS256" }],
  claims: { openid: ["sub"], profile: ["preferred_username"], groups: ["groups"] },
  pkce: { required: () => true },
  conformIdTokenClaims: groups !== "token",
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id.split("@").at(-1), groups: id.split("@").slice(0, -1) }),
  }),
});
provider.listen(Number(port), "127.0.0.1");
