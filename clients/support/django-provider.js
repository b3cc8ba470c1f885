import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { promisify } from 'node:util';
import { callbacks, django as place } from './stage.js';

const PROGRAM = path.join(import.meta.dirname, '..', 'django', 'provider.py');

/** django-oauth-toolkit as a provider: refresh tokens rotate, and a used one works again for a while. */
export class DjangoProvider {
  #process;
  #environment;

  /** `accessSeconds`: how long its access tokens live. */
  static async start({ accessSeconds, graceSeconds }) {
    const started = new DjangoProvider();
    started.#environment = {
      ...process.env,
      PROVIDER_FOLDER: place.folder,
      PROVIDER_PORT: String(place.port),
      PROVIDER_CLIENT_ID: place.clientId,
      PROVIDER_CLIENT_SECRET: place.clientSecret,
      PROVIDER_REDIRECT_URI: callbacks.django,
      PROVIDER_ACCESS_SECONDS: String(accessSeconds),
      PROVIDER_GRACE_SECONDS: String(graceSeconds),
    };
    started.#process = spawn(process.env.PYTHON, [PROGRAM, 'serve'], {
      env: started.#environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const first = await Promise.race([once(started.#process.stdout, 'data'), once(started.#process, 'exit')]);
    if (!String(first[0]).startsWith('listening')) throw new Error('django-oauth-toolkit did not start');
    return started;
  }

  async stop() {
    this.#process.kill();
    await once(this.#process, 'exit');
  }

  /** Who the bearer of an access token is; undefined where the token is not accepted. */
  async me(accessToken) {
    const response = await fetch(`${place.origin}/me`, { headers: { authorization: `Bearer ${accessToken}` } });
    return response.ok ? response.json() : undefined;
  }

  /** The person takes every grant back. */
  async revoke(username) {
    await promisify(execFile)(process.env.PYTHON, [PROGRAM, 'revoke', username], { env: this.#environment });
  }
}
