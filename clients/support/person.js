import { randomBytes, randomUUID } from 'node:crypto';
import { firstForm, linkTo, textOf } from './html.js';
import { django, provider, vault } from './stage.js';

const MOST_STEPS = 25;

/**
 * A person with a browser of their own: keeps cookies, follows redirects, and fills the forms they meet. They know
 * their login at each place they go to, and say yes unless told otherwise.
 */
export class Person {
  #cookies = new Map();
  #logins;
  #refusesAt;

  /** `logins`: {username, password} by origin. */
  constructor(logins) {
    this.#logins = logins;
  }

  /** What they log in by at the vault. */
  get username() {
    return this.#logins[new URL(vault.issuer).origin].username;
  }

  /**
   * Opens `start` and goes on until the browser is sent to an address that begins with `destination`, which is
   * returned and not opened. `press` names a button (its value) to prefer over a page's first; with `signUp` they sign
   * up where they are asked to log in.
   */
  async goTo(start, destination, { press, signUp = false } = {}) {
    let request = { url: new URL(start), method: 'GET' };
    for (let step = 0; step < MOST_STEPS; step += 1) {
      if (request.url.href.startsWith(destination)) return request.url;
      const response = await this.#send(request);
      const location = response.headers.get('location');
      if (location) {
        await response.body?.cancel();
        request = { url: new URL(location, request.url), method: 'GET' };
      } else {
        const html = await response.text();
        const { origin } = request.url;
        const way =
          origin === this.#refusesAt
            ? (linkTo(`${origin}/interaction/`, html) ?? linkTo('/interaction/', html))
            : signUp && linkTo('/u/signup', html);
        request = way
          ? { url: new URL(way, request.url), method: 'GET' }
          : this.#answer(request.url, response, html, press);
      }
    }
    throw new Error(`${start} did not lead to ${destination} in ${MOST_STEPS} steps`);
  }

  /** Opens one address, follows its redirects, and returns the page there. */
  async read(start) {
    let url = new URL(start);
    for (let step = 0; step < MOST_STEPS; step += 1) {
      const response = await this.#send({ url, method: 'GET' });
      const location = response.headers.get('location');
      if (!location) return { url, status: response.status, text: textOf(await response.text()) };
      url = new URL(location, url);
    }
    throw new Error(`${start} redirects without an end`);
  }

  /** Forgets every cookie, as a browser does that was used privately. */
  closeBrowser() {
    this.#cookies.clear();
  }

  /** Says no from now on at a provider whose pages have a link for that. */
  refuseAt(origin) {
    this.#refusesAt = origin;
  }

  /** The login at an origin. */
  loginAt(origin) {
    return this.#logins[origin];
  }

  /** What pressing a button of the page's form sends. */
  #answer(url, response, html, press) {
    const form = firstForm(html);
    if (!form) throw new Error(`${response.status} at ${url.origin}${url.pathname}, without a form: ${textOf(html)}`);
    // A form that comes back refused would be refused for ever.
    if (response.status >= 400) throw new Error(`${response.status} at ${url.origin}${url.pathname}: ${textOf(html)}`);

    const entries = new URLSearchParams();
    const asksForPassword = form.fields.some(({ type }) => type === 'password');
    const login = this.#logins[url.origin];
    if (asksForPassword && !login) throw new Error(`this person has no login at ${url.origin}`);
    for (const { name, value, type } of form.fields) {
      if (type === 'password') entries.append(name, login.password);
      else if (type !== 'hidden' && asksForPassword) entries.append(name, login.username);
      else entries.append(name, value);
    }
    const button =
      form.buttons.find(({ value }) => value === press) ??
      form.buttons.find(({ name }) => name === 'allow') ??
      form.buttons[0];
    if (button?.name) entries.append(button.name, button.value);

    const target = new URL(form.action, url);
    if (form.method !== 'post') {
      target.search = entries;
      return { url: target, method: 'GET' };
    }
    return { url: target, method: 'POST', body: entries, origin: url.origin };
  }

  async #send({ url, method, body, origin }) {
    const response = await fetch(url, {
      method,
      body,
      redirect: 'manual',
      headers: {
        accept: 'text/html',
        ...(origin && { origin }),
        cookie: this.#cookiesFor(url),
      },
    });
    for (const line of response.headers.getSetCookie()) this.#remember(url, line);
    return response;
  }

  // Cookies belong to a host and a path, whatever the port, as in a browser.
  #remember({ hostname, pathname }, line) {
    const [pair, ...rest] = line.split(';').map((part) => part.trim());
    const [name, value] = splitOnce(pair);
    const settings = Object.fromEntries(rest.map(splitOnce).map(([key, text]) => [key.toLowerCase(), text]));
    const path = settings.path ?? pathname.replace(/[^/]*$/, '');
    const key = `${hostname} ${path} ${name}`;
    const isOver =
      settings['max-age'] !== undefined ? Number(settings['max-age']) <= 0 : Date.parse(settings.expires) < Date.now();
    if (isOver) this.#cookies.delete(key);
    else this.#cookies.set(key, { hostname, path, secure: 'secure' in settings, text: `${name}=${value}` });
  }

  #cookiesFor({ hostname, pathname, protocol }) {
    return [...this.#cookies.values()]
      .filter(
        (cookie) =>
          cookie.hostname === hostname && covers(cookie.path, pathname) && (!cookie.secure || protocol === 'https:'),
      )
      .map(({ text }) => text)
      .join('; ');
  }
}

function covers(cookiePath, pathname) {
  return pathname === cookiePath || pathname.startsWith(cookiePath.endsWith('/') ? cookiePath : `${cookiePath}/`);
}

function splitOnce(text) {
  const at = text.indexOf('=');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

/** Somebody new: signed up at the vault and not logged in there, with an account at every provider. */
export async function newPerson() {
  const password = `pass phrase ${randomUUID()}`;
  const [sandboxLogin] = vault.sandbox.accounts;
  const person = new Person({
    [new URL(vault.issuer).origin]: { username: `person-${randomUUID()}@example.com`, password },
    [vault.sandbox.base_url]: sandboxLogin,
    [provider.issuer]: { username: `person-${randomUUID()}`, password: 'any will do' },
    [django.origin]: { username: `person-${randomUUID()}`, password: 'any will do' },
  });
  const { client_id, redirect_uri } = vault.clients.web;
  const start = new URL('authorize', vault.issuer);
  start.search = new URLSearchParams({
    client_id,
    redirect_uri,
    response_type: 'code',
    scope: 'openid',
    // Nobody will redeem the code, so nobody has to know the verifier.
    code_challenge: randomBytes(32).toString('base64url'),
    code_challenge_method: 'S256',
  });
  await person.goTo(start, redirect_uri, { signUp: true });
  person.closeBrowser();
  return person;
}
