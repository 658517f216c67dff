//! Verification of server certificates.

use std::error::Error as StdError;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// Reason of `rustls` for the certificate of an authority that a server presents as its own.
pub(super) const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

/// Certificate of the client and its private key.
pub(super) type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Returns the certificates in a PEM file.
pub(super) fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())
}

/// Returns the private key in a PEM file.
pub(super) fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

/// Returns a TLS setup that trusts the system's certificates and `trusted`, and that presents
/// `identity` to servers that ask for a client certificate.
///
/// A self-signed certificate that is both authority and server certificate, as `openssl req -x509`
/// makes it, is accepted from the server if exactly this certificate is trusted. Its name and its
/// validity are still verified. OpenSSL and Go behave like this; `rustls` alone rejects such
/// certificates.
pub(super) fn tls_config(
    trusted: Vec<CertificateDer<'static>>,
    identity: Option<ClientIdentity>,
) -> Result<ClientConfig, Box<dyn StdError + Send + Sync>> {
    let provider = CryptoProvider::get_default()
        .map_or_else(|| Arc::new(aws_lc_rs::default_provider()), Arc::clone);
    let verifier = ExactVerifier {
        authorities: Verifier::new_with_extra_roots(trusted.clone(), Arc::clone(&provider))?,
        trusted,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some((certificates, key)) => builder.with_client_auth_cert(certificates, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Verifier that also accepts the certificate of an authority as that of a server if exactly this
/// certificate is trusted.
#[derive(Debug)]
struct ExactVerifier {
    authorities: Verifier,
    /// Certificates that are trusted in addition to the system's.
    trusted: Vec<CertificateDer<'static>>,
}

impl ExactVerifier {
    /// Returns true if a certificate is trusted: it is one of the configured ones, or one of the
    /// system's (`SSL_CERT_FILE`).
    fn is_trusted(&self, certificate: &CertificateDer<'_>) -> bool {
        self.trusted.contains(certificate) || system_certificates().contains(certificate)
    }
}

/// Returns the system's certificates. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn system_certificates() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// Returns no certificates: the system verifies certificates itself and does not list them.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn system_certificates() -> Vec<CertificateDer<'static>> {
    Vec::new()
}

impl ServerCertVerifier for ExactVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The validity was verified before this error is returned.
            Err(error) if is_authority_as_server(&error) && self.is_trusted(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

fn is_authority_as_server(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::Other(cause))
            if format!("{cause:?}").contains(AUTHORITY_AS_SERVER)
    )
}
