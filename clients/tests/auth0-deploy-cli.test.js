// auth0-deploy-cli 8.x: what it exports from one vault it imports into another, which then exports the same.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { freePorts } from '../support/ports.js';
import { startVault } from '../support/vault-process.js';

const PROGRAM = path.join(import.meta.dirname, '..', 'node_modules', '.bin', 'a0deploy');
const KINDS = ['clients', 'connections', 'resourceServers', 'clientGrants'];

let scratch;
let first;
let second;

before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'tokenvault-deploy-cli-'));
  // A vault listens at two ports beside each other.
  const [one, , two] = await freePorts(4);
  first = await startVault({ data: path.join(scratch, 'first'), port: one });
  second = await startVault({ data: path.join(scratch, 'second'), port: two });
});

after(async () => {
  await first?.stop();
  await second?.stop();
  if (scratch) await rm(scratch, { recursive: true, force: true });
});

/** Runs the tool against a vault. */
async function deployCli({ dev }, command, folder) {
  const config = {
    AUTH0_DOMAIN: dev.domain,
    AUTH0_CLIENT_ID: dev.management.client_id,
    AUTH0_CLIENT_SECRET: dev.management.client_secret,
    AUTH0_INCLUDED_ONLY: KINDS,
    // Each vault's own: it leads to the sandbox beside it.
    AUTH0_EXCLUDED_CONNECTIONS: ['sandbox'],
    AUTH0_ALLOW_DELETE: false,
  };
  const file = path.join(scratch, `${command}-${path.basename(folder)}.json`);
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
  const where =
    command === 'export' ? ['--format', 'directory', '--output_folder', folder] : ['--input_file', folder];
  await promisify(execFile)(process.execPath, [PROGRAM, command, ...where, '--config_file', file], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: dev.ca_file },
    maxBuffer: 64 * 1024 * 1024,
  }).catch((error) => assert.fail(`a0deploy ${command}: ${error.stdout}${error.stderr}`));
}

/** Every file of an export, by its path, parsed, without what differs between two vaults: the domain and a client's id. */
async function filesOf(folder, { dev }) {
  const files = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.json')) continue;
    const full = path.join(entry.parentPath, entry.name);
    const text = (await readFile(full, 'utf8')).replaceAll(dev.domain, 'DOMAIN').replaceAll(encodeURIComponent(dev.domain), 'DOMAIN');
    files[path.relative(folder, full)] = JSON.parse(text.replaceAll(/"cl_\w+"/g, '"CLIENT_ID"'));
  }
  return files;
}

/** Makes the files of one vault those of another one: the My Account API's identifier has the domain in it. */
async function move(folder, from, to) {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll(from.dev.domain, to.dev.domain));
  }
}

/** The vault's own command line, to make what there is to export. */
async function tokenvault({ dev }, ...args) {
  const data = path.dirname(dev.ca_file);
  const { stdout } = await promisify(execFile)(process.env.TOKENVAULT, [...args, '--data', data]);
  return stdout;
}

test('what one vault exports another one imports, and then exports the same', async () => {
  const api = 'https://invoices.example/';
  await tokenvault(first, 'api', 'create', api, '--set', 'scopes=[{"value":"pay","description":"Pay"}]');
  await tokenvault(first, 'client', 'create', 'Agent', '--set', 'callbacks=["https://agent.example/"]');
  await tokenvault(first, 'client', 'grant', 'Agent', api, '--scope', 'pay');
  const options = { client_id: 'abc', authorizationURL: 'https://p.example/a', tokenURL: 'https://p.example/t' };
  const strategy = 'strategy=oauth2';
  await tokenvault(first, 'connection', 'create', 'files', '--set', strategy, '--set', `options=${JSON.stringify(options)}`);
  await tokenvault(first, 'connection', 'enable', 'files', 'Agent');

  const exported = path.join(scratch, 'exported');
  await deployCli(first, 'export', exported);
  const files = await filesOf(exported, first);
  for (const folder of ['clients', 'connections', 'resource-servers', 'grants']) {
    assert.ok(
      Object.keys(files).some((name) => name.startsWith(`${folder}/`)),
      `${folder}: ${Object.keys(files)}`,
    );
  }
  assert.ok(!JSON.stringify(files).includes(first.dev.sandbox.client_secret));
  assert.match(JSON.stringify(files), /invoices\.example/);

  await move(exported, first, second);
  await deployCli(second, 'import', exported);
  const again = path.join(scratch, 'again');
  await deployCli(second, 'export', again);
  assert.deepEqual(await filesOf(again, second), files);

  // A field that is changed in the files is changed in the vault, and nothing else is.
  const file = path.join(exported, 'clients', 'Agent.json');
  const client = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...client, description: 'Changed in its file' }));
  await deployCli(second, 'import', exported);
  const changed = path.join(scratch, 'changed');
  await deployCli(second, 'export', changed);
  const expected = { ...files };
  expected['clients/Agent.json'] = { ...expected['clients/Agent.json'], description: 'Changed in its file' };
  assert.deepEqual(await filesOf(changed, second), expected);

  // The secrets of the second vault are what they were: its sandbox still knows it.
  const check = JSON.parse(await tokenvault(second, 'connection', 'check', 'sandbox', '--json'));
  assert.equal(check.ok, true, JSON.stringify(check));
});
