import { vault } from './stage.js';

/** Auth0's My Account API for connected accounts, called as its documentation says. */
export class MyAccount {
  #accessToken;

  constructor(accessToken) {
    this.#accessToken = accessToken;
  }

  /** Takes a person through the connect flow to its end. `more` goes into the request as it is. */
  async connectAccount(person, connection, redirectUri, more = {}) {
    const started = await this.#call(201, 'POST', 'connect', {
      connection,
      redirect_uri: redirectUri,
      state: 'the test',
      ...more,
    });
    const start = new URL(started.connect_uri);
    start.searchParams.set('ticket', started.connect_params.ticket);
    const { searchParams } = await person.goTo(start, redirectUri);
    if (!searchParams.has('connect_code') || searchParams.get('state') !== 'the test') {
      throw new Error(`not connected: ${searchParams}`);
    }
    return this.#call(201, 'POST', 'complete', {
      auth_session: started.auth_session,
      connect_code: searchParams.get('connect_code'),
      redirect_uri: redirectUri,
    });
  }

  /** The person's connected accounts. */
  async accounts() {
    return (await this.#call(200, 'GET', 'accounts')).accounts;
  }

  /** Disconnects one account. */
  async disconnect(id) {
    await this.#call(204, 'DELETE', `accounts/${id}`);
  }

  async #call(expected, method, path, body) {
    const response = await fetch(`${vault.issuer}me/v1/connected-accounts/${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#accessToken}`,
        ...(body && { 'content-type': 'application/json' }),
      },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (response.status !== expected) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }
}
