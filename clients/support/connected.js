import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { newPerson } from './person.js';
import { logIn, myAccountOf, REDIRECT_URI, webApp } from './web-app.js';

const REFRESH_TOKEN = 'urn:ietf:params:oauth:token-type:refresh_token';

/** Somebody new with an account at a connection, and an application that exchanges for it. */
export class Connected {
  /** As the My Account API describes it. */
  account;
  person;
  #connection;
  #refreshToken;

  static async at(connection) {
    const connected = new Connected();
    connected.#connection = connection;
    connected.person = await newPerson();
    connected.#refreshToken = (await logIn(connected.person)).refreshToken;
    connected.account = await connected.connect();
    return connected;
  }

  /** Connects the account, anew if it was before. */
  async connect() {
    return (await this.myAccount()).connectAccount(this.person, this.#connection, REDIRECT_URI);
  }

  async myAccount() {
    return myAccountOf(this.#refreshToken);
  }

  /** The provider's access token. `more` goes into the SDK's call. */
  async exchange(more) {
    const { accessToken } = await webApp.exchangeToken({
      connection: this.#connection,
      subjectToken: this.#refreshToken,
      subjectTokenType: REFRESH_TOKEN,
      ...more,
    });
    return accessToken;
  }

  /** The exchange is refused with this status, and this code where the SDK passes it on: not of server errors. */
  async assertRefused(statusCode, code) {
    await assert.rejects(this.exchange(), (error) => {
      assert.equal(error.statusCode, statusCode);
      if (code) assert.equal(error.cause.error, code);
      return true;
    });
  }

  async disconnect() {
    await (await this.myAccount()).disconnect(this.account.id);
  }
}

/** What `read` says once it says it. The vault and providers do some things behind their answers. */
export async function eventually(read, patience = 15_000) {
  const until = Date.now() + patience;
  for (;;) {
    const value = await read();
    if (value) return value;
    if (Date.now() > until) throw new Error(`it never came: ${read}`);
    await pause(50);
  }
}
