import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import https from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';

const LINES_KEPT = 60;

/**
 * Starts `tokenvault dev` and waits until it answers. `connections` are made at its first start; the addresses that
 * have to be registered for them at their providers are in `callbacks`, by connection. `options` are further ones of
 * the command.
 */
export async function startVault({ data, port, connections = [], options = [] }) {
  const connectionsFile = `${data}-connections.toml`;
  await writeFile(connectionsFile, connections.map(connectionToml).join('\n'), { mode: 0o600 });
  const child = spawn(
    process.env.TOKENVAULT,
    [
      'dev',
      '--data',
      data,
      '--port',
      String(port),
      '--connections',
      connectionsFile,
      ...options,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const ended = once(child, 'exit');
  let output = '';
  let lines = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => {
      if (stream === child.stdout) output += text;
      lines = [...lines, ...text.split('\n').filter(Boolean)].slice(-LINES_KEPT);
    });
  }
  const lastWords = () => lines.join('\n');
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    const patience = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await ended;
    clearTimeout(patience);
  };

  try {
    const dev = await ready(child, data);
    const callbacks = Object.fromEntries(
      [...output.matchAll(/^connection (\S+): callback (\S+)$/gm)].map(([, name, uri]) => [name, uri]),
    );
    for (const { name } of connections) {
      if (!callbacks[name]) throw new Error(`the vault named no callback for the connection ${name}`);
    }
    return { dev, callbacks, stop, lastWords };
  } catch (error) {
    await stop();
    throw new Error(`the vault did not start:\n${lastWords()}`, { cause: error });
  }
}

/** dev.json, once the vault that it describes answers. */
async function ready(child, data) {
  const file = `${data}/dev.json`;
  for (let attempt = 0; attempt < 300; attempt += 1) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('it ended');
    if (existsSync(file)) {
      const dev = JSON.parse(await readFile(file, 'utf8'));
      if (await answers(dev)) return dev;
    }
    await pause(100);
  }
  throw new Error('it never answered');
}

async function answers(dev) {
  const ca = await readFile(dev.ca_file);
  return new Promise((resolve) => {
    https
      .get(new URL('.well-known/openid-configuration', dev.issuer), { ca }, (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      })
      .on('error', () => resolve(false));
  });
}

/** A connection as the vault's file of connections has it. JSON's strings and arrays of strings are TOML's too. */
function connectionToml({ options, ...fields }) {
  const table = (entries) => Object.entries(entries).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  return ['[[connection]]', ...table(fields), '[connection.options]', ...table(options), ''].join('\n');
}
