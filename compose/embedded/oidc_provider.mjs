// An OpenID provider for tests: oidc-provider (npm), with one API, one public client, and users of any name. Its
// arguments: the library's main file, and a file with its settings. Keys are the file's; it is started again with others.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [library, file] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(library).href);
const { issuer, port, jwks, audience, client, home, claims, lifetime } = JSON.parse(await readFile(file, "utf8"));

const provider = new Provider(issuer, {
  jwks,
  clients: [{
    client_id: client,
    application_type: "native", // whose redirects may be plain HTTP, on loopback
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    redirect_uris: [home],
    post_logout_redirect_uris: [home],
  }],
  cookies: { keys: ["of the tests"] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { AccessToken: lifetime, IdToken: 60, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: id, email_verified: true }) }),
  claims: { openid: ["sub", "email", "email_verified"] },
  extraTokenClaims: (_ctx, token) => ({ email: token.accountId, email_verified: true, ...claims }),
  features: {
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: "", audience, accessTokenFormat: "jwt" }),
    },
  },
});
provider.on("server_error", (_ctx, error) => console.error(error));
provider.listen(port, "127.0.0.1");
