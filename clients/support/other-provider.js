import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';
import { callbacks, provider as place } from './stage.js';

/**
 * The npm package oidc-provider as a strict provider: refresh tokens rotate, and one used twice ends the grant.
 * Its own development pages let everybody in and ask for consent.
 */
export class OtherProvider {
  /** Seconds that the access tokens live that are issued from now on. */
  accessTokenLifetime = 300;
  /** Every refresh that it has granted: which refresh token was presented, and which was given for it. */
  refreshes = [];
  #provider;
  #server;

  static async start() {
    const started = new OtherProvider();
    started.#provider = new Provider(place.issuer, {
      clients: [
        client('vault-oidc', callbacks['other-oidc'], 'client_secret_basic'),
        client('vault-oauth2', callbacks['other-oauth2'], 'client_secret_post'),
      ],
      jwks: { keys: [generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })] },
      cookies: { keys: [randomBytes(32).toString('hex')] },
      claims: { openid: ['sub'], email: ['email'] },
      findAccount: (_, accountId) => ({
        accountId,
        claims: () => ({ sub: accountId, email: `${accountId}@other.example` }),
      }),
      features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
      pkce: { required: () => true },
      issueRefreshToken: () => true,
      rotateRefreshToken: true,
      ttl: {
        AccessToken: () => started.accessTokenLifetime,
        RefreshToken: 3600,
        IdToken: 300,
        Interaction: 300,
        Session: 3600,
        Grant: 3600,
      },
    });
    started.#provider.on('grant.success', ({ oidc, body }) => {
      if (oidc.params.grant_type !== 'refresh_token') return;
      started.refreshes.push({ presented: oidc.params.refresh_token, issued: body.refresh_token });
    });
    started.#server = createServer(
      { cert: readFileSync(place.certificateFile), key: readFileSync(place.keyFile) },
      started.#provider.callback(),
    );
    started.#server.listen(place.port, 'localhost');
    await once(started.#server, 'listening');
    return started;
  }

  async stop() {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  /** What it tells the bearer of an access token about the person. Undefined when it does not accept the token. */
  async userinfo(accessToken) {
    const response = await fetch(`${place.issuer}/me`, { headers: { authorization: `Bearer ${accessToken}` } });
    if (response.status === 401) return undefined;
    if (response.status !== 200) throw new Error(`userinfo: ${response.status}`);
    return response.json();
  }

  /** The person takes back what they had allowed: no refresh token of that grant is accepted any more. */
  async endGrantOf(refreshToken) {
    const { grantId } = await this.#provider.RefreshToken.find(refreshToken);
    await this.#provider.Grant.adapter.destroy(grantId);
    await this.#provider.RefreshToken.revokeByGrantId(grantId);
  }
}

function client(client_id, redirectUri, token_endpoint_auth_method) {
  return {
    client_id,
    client_secret: place.clientSecret,
    redirect_uris: [redirectUri],
    token_endpoint_auth_method,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  };
}
