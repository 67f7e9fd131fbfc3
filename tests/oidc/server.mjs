// A real OpenID provider that says yes to everybody, rotates refresh tokens and ends a grant whose refresh token
// comes twice. Prints its address; GET /seen tells what was asked of it.
import { createServer } from 'node:http';
import { once } from 'node:events';

import Provider from 'oidc-provider';

const [redirectUri] = process.argv.slice(2);
const seen = { refreshed: 0, failed: 0, revoked: 0 };

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'hub',
      client_secret: 'hush',
      redirect_uris: [redirectUri],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  cookies: { keys: ['for tests alone'] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  issueRefreshToken: async () => true,
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: 3600, AuthorizationCode: 60, Grant: 86400, IdToken: 3600, Interaction: 60, RefreshToken: 86400, Session: 3600 },
});

provider.on('grant.success', (ctx) => {
  if (ctx.oidc.params.grant_type === 'refresh_token') seen.refreshed += 1;
});
provider.on('grant.error', () => {
  seen.failed += 1;
});
provider.on('grant.revoked', () => {
  seen.revoked += 1;
});

async function sayYes(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    await provider.interactionFinished(request, response, { login: { accountId: 'somebody' } });
    return;
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  await provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } });
}

const serve = provider.callback();
server.on('request', (request, response) => {
  if (request.url === '/seen') {
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(seen));
  } else if (request.url.startsWith('/interaction/')) {
    sayYes(request, response).catch((error) => {
      response.statusCode = 500;
      response.end(String(error));
    });
  } else {
    serve(request, response);
  }
});

process.stdin.on('end', () => process.exit(0)).resume(); // with the test's process
console.log(issuer);
