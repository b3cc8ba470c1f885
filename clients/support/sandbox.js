import assert from 'node:assert/strict';
import { vault } from './stage.js';

/** The sandbox provider's own word on whose access token this is. Undefined when it takes it for none of its own. */
export async function personAtSandbox(accessToken) {
  const { base_url } = vault.sandbox;
  const discovery = await fetch(`${base_url}/.well-known/openid-configuration`);
  assert.equal(discovery.status, 200);
  const { userinfo_endpoint } = await discovery.json();
  const response = await fetch(userinfo_endpoint, { headers: { authorization: `Bearer ${accessToken}` } });
  if (response.status === 401) return undefined;
  assert.equal(response.status, 200);
  return response.json();
}

/** Asserts that this is a token with which the sandbox serves the account that a test's person has there. */
export async function assertSandboxToken(accessToken) {
  const [{ username }] = vault.sandbox.accounts;
  assert.equal((await personAtSandbox(accessToken))?.email, username);
}
