// Sets the stage for the tests, runs them, and clears everything away: a vault with its sandbox provider, and a
// certificate and ports for the providers that tests start.

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
  const [vaultPort, , providerPort, mockPort, djangoPort] = await freePorts(5);
  const clientSecret = 'a secret of a provider that lives for one test run';
  const certificate = await makeCertificate(scratch);
  const provider = {
    port: providerPort,
    issuer: `https://localhost:${providerPort}`,
    ...certificate,
    clientSecret,
  };
  const mock = { port: mockPort, issuer: `https://localhost:${mockPort}`, ...certificate, clientSecret };
  const django = {
    port: djangoPort,
    origin: `http://localhost:${djangoPort}`,
    clientId: 'vault-django',
    clientSecret,
    folder: scratch,
  };
  vault = await startVault({
    data: path.join(scratch, 'vault'),
    port: vaultPort,
    connections: [...connectionsTo(provider), connectionToMock(mock), connectionToDjango(django)],
    options: [
      '--trust-ca',
      provider.authorityFile,
      ...[provider.issuer, mock.issuer, django.origin].flatMap((origin) => ['--allow-origin', origin]),
    ],
  });

  const stageFile = path.join(scratch, 'stage.json');
  await writeFile(stageFile, JSON.stringify({ vault: vault.dev, callbacks: vault.callbacks, provider, mock, django }), {
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
        revocation_endpoint: `${issuer}/token/revocation`,
      },
    },
  ];
}

function connectionToMock({ issuer, clientSecret }) {
  return {
    name: 'mock',
    strategy: 'oidc',
    display_name: 'A provider whose answers break',
    client_id: 'vault-mock',
    client_secret: clientSecret,
    scopes: ['openid', 'offline_access'],
    options: { issuer },
  };
}

function connectionToDjango({ origin, clientId, clientSecret }) {
  return {
    name: 'django',
    strategy: 'oauth2',
    display_name: 'A Django site',
    client_id: clientId,
    client_secret: clientSecret,
    scopes: ['profile', 'files'],
    options: {
      authorization_endpoint: `${origin}/o/authorize/`,
      token_endpoint: `${origin}/o/token/`,
      userinfo_endpoint: `${origin}/me`,
      revocation_endpoint: `${origin}/o/revoke_token/`,
      refresh_class: 'rotating',
      replay_window: 120,
    },
  };
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
