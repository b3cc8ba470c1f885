// schemathesis against the Management API, by the OpenAPI document that the vault serves: whatever is sent, no answer is a
// 5xx, and every answer is what the document says.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { freePorts } from '../support/ports.js';
import { startVault } from '../support/vault-process.js';

const PROGRAM = path.join(path.dirname(process.env.PYTHON), 'schemathesis');
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
];

// With these a caller can take its own access away, so each has a vault of its own: what comes after would be refused.
const ALONE = [
  ['applyConfiguration'],
  ['deleteClient'],
  ['deleteClientGrant'],
  ['revokeSigningKey', 'rotateSigningKey'],
  ['updateClient'],
  ['updateClientGrant'],
];

/** Runs schemathesis against a new vault, and returns how it ended and what it said. */
async function attack(operations) {
  const scratch = await mkdtemp(path.join(tmpdir(), 'tokenvault-schemathesis-'));
  const [port] = await freePorts(2);
  let vault;
  try {
    vault = await startVault({ data: path.join(scratch, 'vault'), port });
    const { dev } = vault;
    const run = promisify(execFile);
    const { stdout } = await run(process.env.TOKENVAULT, ['dev-token', 'management', '--data', path.join(scratch, 'vault')]);
    const token = stdout.trim();
    const settings = { '--tls-verify': dev.ca_file, '--header': `Authorization: Bearer ${token}`, '--checks': CHECKS };
    // The same requests in every run.
    Object.assign(settings, { '--seed': 1, '--max-examples': 10, '--phases': 'examples,coverage,fuzzing' });
    const flags = ['--generation-deterministic', '--continue-on-failure', '--no-color'];
    const args = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    return await run(PROGRAM, ['run', `${dev.issuer}api/v2/openapi.json`, ...args, ...flags, ...operations], {
      cwd: scratch,
      maxBuffer: 64 * 1024 * 1024,
    }).then(
      ({ stdout: said }) => ({ passed: true, said }),
      (error) => ({ passed: false, said: `exit ${error.code}\n${error.stderr}${error.stdout.slice(-6000)}` }),
    );
  } finally {
    await vault?.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

describe('the Management API keeps to its document', { concurrency: 2 }, () => {
  test('every operation but those', async () => {
    const { passed, said } = await attack(ALONE.flat().map((id) => `--exclude-operation-id=${id}`));
    assert.ok(passed, said);
    // It was let in all the time: a wall of refusals would pass, too.
    assert.doesNotMatch(said, /returned only 401/);
  });
  for (const ids of ALONE) {
    test(ids.join(' and '), async () => {
      const { passed, said } = await attack(ids.map((id) => `--include-operation-id=${id}`));
      assert.ok(passed, said);
    });
  }
});
