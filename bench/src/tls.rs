//! TLS of a measurement: a certificate for one run, and a client that trusts it and nothing else.

use std::sync::Arc;

use anyhow::Result;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom the certificate is for; the address is not looked at.
const NAME: &str = "vault.test";

/// What a server needs, and its certificate as DER. The key is of the kind that certificates have by default now:
/// ECDSA with P-256.
pub(crate) fn server() -> Result<(Arc<ServerConfig>, Vec<u8>)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().to_vec();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone().into()], PrivateKeyDer::from(key))?;
    Ok((Arc::new(config), certificate))
}

/// A client that trusts one certificate.
pub(crate) fn connector(certificate: &[u8]) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec()))?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // The load is HTTP/1.1 with and without TLS.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Greets the server.
pub(crate) async fn handshake(
    connector: &TlsConnector,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>> {
    Ok(connector
        .connect(ServerName::try_from(NAME)?, stream)
        .await?)
}
