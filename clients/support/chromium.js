import { createHash } from 'node:crypto';
import { once } from 'node:events';
import tls from 'node:tls';
import { chromium } from 'playwright-core';
import { vault } from './stage.js';

const MOST_STEPS = 10;

/** The system's Chromium, which accepts the certificates of the vault and of its sandbox and no other unknown ones. */
export async function openBrowser() {
  const pins = await Promise.all([vault.issuer, vault.sandbox.base_url].map(certificatePin));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      `--ignore-certificate-errors-spki-list=${pins.join(',')}`,
    ],
  });
  return {
    newPage: async (person) => {
      // A context of its own is a browser of its own: no cookies and no storage of others.
      const context = await browser.newContext();
      return new Page(context, await context.newPage(), person);
    },
    close: () => browser.close(),
  };
}

/** The hash by which Chromium is told to accept a certificate. */
async function certificatePin(address) {
  const { hostname, port } = new URL(address);
  const socket = tls.connect({ host: hostname, port: Number(port || 443), servername: hostname });
  await once(socket, 'secureConnect');
  const spki = socket.getPeerX509Certificate().publicKey.export({ type: 'spki', format: 'der' });
  socket.destroy();
  return createHash('sha256').update(spki).digest('base64');
}

/** A page before which a person sits who fills the forms that they meet. */
class Page {
  #context;
  #page;
  #person;

  constructor(context, page, person) {
    this.#context = context;
    this.#page = page;
    this.#person = person;
  }

  goto(address) {
    return this.#page.goto(address);
  }

  evaluate(script, argument) {
    return this.#page.evaluate(script, argument);
  }

  /** Does what takes the browser to another page, and waits for that. */
  async leave(script) {
    await Promise.all([this.#page.waitForEvent('framenavigated'), this.#page.evaluate(script)]);
  }

  /** Fills one form after the other until the browser is where `destination` says, whatever the query. */
  async walkTo(destination) {
    for (let step = 0; step < MOST_STEPS; step += 1) {
      await this.#page.waitForLoadState();
      const url = new URL(this.#page.url());
      if (url.origin + url.pathname === destination) return;
      await this.#answerForm(url.origin);
    }
    throw new Error(`the browser did not come to ${destination}; it is at ${this.#page.url()}`);
  }

  async #answerForm(origin) {
    const password = this.#page.locator('input[type=password]');
    if ((await password.count()) > 0) {
      const login = this.#person.loginAt(origin);
      await this.#page.locator('input:not([type=hidden]):not([type=password])').first().fill(login.username);
      await password.fill(login.password);
    }
    const button = this.#page.locator('form button').first();
    // Asked here so that a page without a form is an error that shows what the page says.
    if ((await button.count()) === 0)
      throw new Error(`no form at ${this.#page.url()}: ${await this.#page.locator('body').innerText()}`);
    await Promise.all([this.#page.waitForEvent('framenavigated'), button.click()]);
  }

  close() {
    return this.#context.close();
  }
}
