// What runs for the tests: clients/run starts it and says here where it is.

import { readFileSync } from 'node:fs';

if (!process.env.TOKENVAULT_STAGE) throw new Error('nothing runs to be tested; start the tests with clients/run');

const { vault, callbacks, provider, mock, django } = JSON.parse(readFileSync(process.env.TOKENVAULT_STAGE, 'utf8'));

/** `dev.json` of the vault under test. */
export { vault };
/** The vault's address for each further connection's provider to send people back to. */
export { callbacks };
/** Where oidc-provider is to be, and with which certificate. */
export { provider };
/** The same for oauth2-mock-server. */
export { mock };
/** Where django-oauth-toolkit is to be. */
export { django };

/** The audience of the vault's own My Account API. */
export const ME_AUDIENCE = `${vault.issuer}me/`;
/** The sandbox provider's connection. */
export const SANDBOX = vault.sandbox.connection;
