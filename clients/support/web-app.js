// The web application of the demo, for tests whose subject is something else than logging in and connecting.

import { AuthClient } from '@auth0/auth0-auth-js';
import { MyAccount } from './my-account.js';
import { ME_AUDIENCE, vault } from './stage.js';

const { client_id, client_secret, redirect_uri } = vault.clients.web;

/** Where the vault sends people back to. Nothing listens there: the tests read the address. */
export const REDIRECT_URI = redirect_uri;

/** The web application's client of the vault. */
export const webApp = new AuthClient({
  domain: vault.domain,
  clientId: client_id,
  clientSecret: client_secret,
  authorizationParams: { redirect_uri },
});

/** Logs a person in and returns the application's tokens. */
export async function logIn(person, authorizationParams = {}) {
  const { authorizationUrl, codeVerifier } = await webApp.buildAuthorizationUrl({
    authorizationParams: { redirect_uri, ...authorizationParams },
  });
  const callback = await person.goTo(authorizationUrl, redirect_uri);
  return webApp.getTokenByCode(callback, { codeVerifier });
}

/** The My Account API for the person who gave the application this refresh token. */
export async function myAccountOf(refreshToken) {
  const { accessToken } = await webApp.getTokenByRefreshToken({ refreshToken, audience: ME_AUDIENCE });
  return new MyAccount(accessToken);
}

/** Connects the person's account at a connection's provider, and returns the account. */
export async function connectAccount(person, refreshToken, connection, more = {}) {
  const myAccount = await myAccountOf(refreshToken);
  return myAccount.connectAccount(person, connection, redirect_uri, more);
}
