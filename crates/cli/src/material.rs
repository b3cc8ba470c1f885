//! Keys and certificates on disk: the master key, and for `dev` a certificate authority of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Writes a file that only its owner may read. Never overwrites.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a folder that only its owner can look into; one that is there stays as it is.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Reads the master key file, which nobody but its owner may be able to read.
pub(crate) fn read_master_key(path: &Path) -> Result<seal::LocalMasterKey> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(path)
            .with_context(|| format!("cannot read the master key file {}", path.display()))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            bail!(
                "the master key file {path} can be read by others; run: chmod 600 {path}",
                path = path.display()
            );
        }
    }
    let text = seal::SecretString::new(
        std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the master key file {}", path.display()))?,
    );
    seal::LocalMasterKey::from_text(text.reveal())
        .with_context(|| format!("the master key file {}", path.display()))
}

/// What TLS needs, from PEM files.
pub(crate) fn tls_config(
    certificate: &Path,
    private_key: &Path,
) -> Result<Arc<rustls::ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("the certificate file {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(private_key)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("the private key file {}", private_key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the private key do not belong together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The files of the local certificate authority and the server certificate that it signed.
#[derive(Debug, Clone)]
pub(crate) struct LocalTls {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
}

const CA_DAYS: i64 = 3650;
const CERTIFICATE_DAYS: i64 = 365;
/// A certificate with less life than this is made anew.
const RENEW_DAYS: i64 = 30;

/// Makes what is missing: an authority once, a certificate whenever the names change or its end is near.
pub(crate) fn local_tls(directory: &Path, names: &[String], now: Timestamp) -> Result<LocalTls> {
    let files = LocalTls {
        ca: directory.join("ca.pem"),
        certificate: directory.join("tls.pem"),
        private_key: directory.join("tls.key"),
    };
    let ca_key = directory.join("ca.key");
    if !files.ca.exists() || !ca_key.exists() {
        let (certificate, key) = make_authority(now)?;
        replace(&ca_key, &key, true)?;
        replace(&files.ca, &certificate, false)?;
        remove_if_there(&files.certificate)?;
    }

    // The certificate does not say for whom it was made in a way that is easy to read back; this file does.
    let stamp = directory.join("tls.names");
    let wanted = format!("{}\n", names.join(" "));
    let good = std::fs::read_to_string(&stamp).ok().and_then(|text| {
        let (until, rest) = text.split_once(' ')?;
        let until = until.parse::<i64>().ok()?;
        (rest == wanted && until - now.as_second() > RENEW_DAYS * 86_400).then_some(())
    });
    if good.is_some() && files.certificate.exists() && files.private_key.exists() {
        return Ok(files);
    }
    let authority = KeyPair::from_pem(&std::fs::read_to_string(&ca_key)?)
        .with_context(|| format!("the key of the local authority {}", ca_key.display()))?;
    let issuer = Issuer::new(authority_params(now)?, authority);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Tokenvault development server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, CERTIFICATE_DAYS)?;
    let certificate = params.signed_by(&key, &issuer)?;
    replace(&files.private_key, &key.serialize_pem(), true)?;
    replace(&files.certificate, &certificate.pem(), false)?;
    let until = now.as_second() + CERTIFICATE_DAYS * 86_400;
    replace(&stamp, &format!("{until} {wanted}"), false)?;
    Ok(files)
}

fn make_authority(now: Timestamp) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let pem = key.serialize_pem();
    let certificate = authority_params(now)?.self_signed(&key)?;
    Ok((certificate.pem(), pem))
}

fn authority_params(now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Tokenvault development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, CA_DAYS)?;
    Ok(params)
}

/// From yesterday, so that a clock that is a little behind agrees, for `days`.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<()> {
    let date = |instant: Timestamp| -> Result<(i32, u8, u8)> {
        let date = instant.to_zoned(jiff::tz::TimeZone::UTC).date();
        Ok((
            i32::from(date.year()),
            u8::try_from(date.month())?,
            u8::try_from(date.day())?,
        ))
    };
    let (year, month, day) = date(now.checked_sub(SignedDuration::from_hours(24))?)?;
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date(now.checked_add(SignedDuration::from_hours(24 * days))?)?;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(())
}

fn replace(path: &Path, text: &str, secret: bool) -> Result<()> {
    remove_if_there(path)?;
    if secret {
        write_secret(path, text)
    } else {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot replace {}", path.display())),
    }
}
