// Sets the stage for the tests, runs them, and clears everything away: a vault with its sandbox provider, and a
// certificate and a port for the provider that provider.test.js starts.

import { spawn } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { makeCertificate } from './certificate.js';
import { freePorts } from './ports.js';
import { startVault } from './vault-process.js';

const folder = path.dirname(import.meta.dirname);

const scratch = await mkdtemp(path.join(tmpdir(), 'tokenvault-clients-'));
let vault;
let exitCode = 1;
// The first signal ends the tests; what follows is cleared away as after any other end.
let tests;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => tests?.kill('SIGTERM'));

try {
  const [vaultPort, , providerPort] = await freePorts(3);
  const provider = {
    port: providerPort,
    issuer: `https://localhost:${providerPort}`,
    ...(await makeCertificate(scratch)),
    clientSecret: 'a secret of a provider that lives for one test run',
  };
  vault = await startVault({
    data: path.join(scratch, 'vault'),
    port: vaultPort,
    connections: connectionsTo(provider),
    options: ['--trust-ca', provider.authorityFile, '--allow-origin', provider.issuer],
  });

  const stageFile = path.join(scratch, 'stage.json');
  await writeFile(stageFile, JSON.stringify({ vault: vault.dev, callbacks: vault.callbacks, provider }), {
    mode: 0o600,
  });
  exitCode = await runTests({
    TOKENVAULT_STAGE: stageFile,
    // What Node trusts besides the usual is one file.
    NODE_EXTRA_CA_CERTS: await bundle([vault.dev.ca_file, provider.authorityFile]),
  });
} catch (error) {
  console.error(error);
} finally {
  await vault?.stop();
  if (exitCode !== 0 && vault) console.error(`--- the vault's last words ---\n${vault.lastWords()}`);
  await rm(scratch, { recursive: true, force: true });
}
process.exit(exitCode);

/** Two ways to describe the same provider: by its issuer, and by plain endpoints. */
function connectionsTo(provider) {
  const { issuer, clientSecret } = provider;
  return [
    {
      name: 'other-oidc',
      strategy: 'oidc',
      display_name: 'Other provider',
      client_id: 'vault-oidc',
      client_secret: clientSecret,
      scopes: ['openid', 'email', 'offline_access'],
      options: { issuer },
    },
    {
      name: 'other-oauth2',
      strategy: 'oauth2',
      display_name: 'Other provider by endpoints',
      client_id: 'vault-oauth2',
      client_secret: clientSecret,
      scopes: ['openid', 'email', 'offline_access'],
      options: {
        authorization_endpoint: `${issuer}/auth`,
        token_endpoint: `${issuer}/token`,
        userinfo_endpoint: `${issuer}/me`,
      },
    },
  ];
}

async function bundle(files) {
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
  const file = path.join(scratch, 'trusted.pem');
  await writeFile(file, texts.join('\n'));
  return file;
}

async function runTests(env) {
  const asked = process.argv.slice(2);
  const all = (await readdir(path.join(folder, 'tests'))).sort().map((name) => path.join('tests', name));
  // One file at a time: the machine is small, and Chromium alone fills it.
  tests = spawn(process.execPath, ['--test', '--test-concurrency=1', ...(asked.length > 0 ? asked : all)], {
    cwd: folder,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  return new Promise((resolve) => tests.on('exit', (code) => resolve(code ?? 1)));
}
