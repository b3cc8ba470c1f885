import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

// A certificate authority and a certificate for localhost: a server's certificate that is its own authority would be
// refused by strict clients, the vault among them.
const CONFIG = `
[req]
distinguished_name = name
prompt = no
[name]
CN = localhost
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
`;

/** Makes a certificate for https://localhost in `folder` and says where its parts are. */
export async function makeCertificate(folder) {
  const file = (name) => path.join(folder, name);
  await writeFile(file('openssl.cnf'), CONFIG);
  const request = (key, certificate, extensions, ...more) =>
    run('openssl', [
      'req',
      '-x509',
      '-config',
      file('openssl.cnf'),
      '-extensions',
      extensions,
      '-days',
      '2',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-noenc',
      '-keyout',
      file(key),
      '-out',
      file(certificate),
      ...more,
    ]);
  await request('authority.key', 'authority.pem', 'authority', '-subj', '/CN=Authority of a test run');
  await request('server.key', 'server.pem', 'server', '-CA', file('authority.pem'), '-CAkey', file('authority.key'));
  return {
    authorityFile: file('authority.pem'),
    certificateFile: file('server.pem'),
    keyFile: file('server.key'),
  };
}
