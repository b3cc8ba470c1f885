// @auth0/ai, by its Vercel AI wrapper, which is where withTokenVault is: an agent's tool that needs a token.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { before, test } from 'node:test';
import { newPerson } from '../support/person.js';
import { assertSandboxToken } from '../support/sandbox.js';
import { SANDBOX, vault } from '../support/stage.js';
import { connectAccount, logIn, webApp } from '../support/web-app.js';

// Node cannot load the ES modules of these packages (their imports lack file extensions), but their CommonJS ones.
const require = createRequire(import.meta.url);
const { Auth0AI, getAccessTokenFromTokenVault, runWithAIContext } = require('@auth0/ai-vercel');
const { TokenVaultInterrupt } = require('@auth0/ai/interrupts');
const { SUBJECT_TOKEN_TYPES } = require('@auth0/ai');
const { tool } = require('ai');
const { z } = require('zod');

const { web, api } = vault.clients;
const SCOPES = ['files.read'];

let person;
let refreshToken;

before(async () => {
  person = await newPerson();
  ({ refreshToken } = await logIn(person));
});

/** A tool that returns the token it was given, guarded by the vault. */
function guardedTool(client, source) {
  const auth0AI = new Auth0AI({
    auth0: { domain: vault.domain, clientId: client.client_id, clientSecret: client.client_secret },
  });
  const guard = auth0AI.withTokenVault({ connection: SANDBOX, scopes: SCOPES, ...source });
  return guard(
    tool({
      description: 'Lists the files of the person',
      inputSchema: z.object({}),
      execute: async () => getAccessTokenFromTokenVault(),
    }),
  );
}

function call(guarded) {
  return runWithAIContext({ threadID: 'a thread' }, () => guarded.execute({}, { toolCallId: 'a call', messages: [] }));
}

async function assertInterrupts(guarded) {
  await assert.rejects(call(guarded), (error) => {
    assert.ok(error instanceof TokenVaultInterrupt, `${error}`);
    assert.equal(error.code, 'TOKEN_VAULT_ERROR');
    assert.equal(error.connection, SANDBOX);
    assert.deepEqual(error.requiredScopes, SCOPES);
    return true;
  });
}

test('a tool interrupts while the account is missing, and works once it is connected', async () => {
  const withRefreshToken = guardedTool(web, { refreshToken: async () => refreshToken });
  const withAccessToken = guardedTool(api, {
    subjectTokenType: SUBJECT_TOKEN_TYPES.SUBJECT_TYPE_ACCESS_TOKEN,
    accessToken: async () =>
      (await webApp.getTokenByRefreshToken({ refreshToken, audience: api.audience })).accessToken,
  });

  await assertInterrupts(withRefreshToken);
  await assertInterrupts(withAccessToken);

  // What the interrupt asks for is what the application connects with.
  await connectAccount(person, refreshToken, SANDBOX, { scopes: ['openid', 'email', ...SCOPES] });

  await assertSandboxToken(await call(withRefreshToken));
  await assertSandboxToken(await call(withAccessToken));
});

test('a tool that needs more than was granted interrupts, naming all that is needed', async () => {
  const auth0AI = new Auth0AI({
    auth0: { domain: vault.domain, clientId: web.client_id, clientSecret: web.client_secret },
  });
  const guard = auth0AI.withTokenVault({
    connection: SANDBOX,
    scopes: ['calendar.read'],
    refreshToken: async () => refreshToken,
  });
  const guarded = guard(
    tool({ description: 'Reads the calendar', inputSchema: z.object({}), execute: async () => 'not reached' }),
  );
  await assert.rejects(call(guarded), (error) => {
    assert.ok(error instanceof TokenVaultInterrupt, `${error}`);
    assert.deepEqual(
      ['calendar.read', 'files.read'].filter((scope) => error.requiredScopes.includes(scope)),
      ['calendar.read', 'files.read'],
    );
    return true;
  });
});
