import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(import.meta.url);
const bundle = path.join(
  path.dirname(require.resolve('@auth0/auth0-spa-js/package.json')),
  'dist/auth0-spa-js.production.js',
);

const FILES = {
  '/': ['text/html', '<!doctype html><title>An application</title><script src="/auth0-spa-js.js"></script>'],
  '/auth0-spa-js.js': ['text/javascript', readFileSync(bundle)],
};

/** Serves a page that loads the SDK's production bundle as it is in the package. */
export async function startSpa(address) {
  const { port } = new URL(address);
  const server = createServer((request, response) => {
    const file = FILES[new URL(request.url, address).pathname];
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': file[0] }).end(file[1]);
  });
  server.listen(Number(port), 'localhost');
  await once(server, 'listening');
  return {
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
