//! A certificate authority of one's own, for development and for networks that have no other: its key, and certificates for servers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{Datelike as _, Days, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::private;

/// How long the authority is believed: until nobody remembers who has its key.
const AUTHORITY_DAYS: u64 = 3650;
/// How long a server is: certificates are made anew with one command, so a stolen key is of use for a while only.
const SERVER_DAYS: u64 = 365;

/// An authority, in a folder: its key, `authority/ca.key`, and its certificate, `ca.pem`.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority of this folder, or makes one.
    ///
    /// # Errors
    /// Where the folder cannot be read or written, or holds another key.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("authority/ca.key");
        let key = KeyPair::from_pem(&private::keep_or_make(&path, || Ok(KeyPair::generate()?.serialize_pem()))?)
            .with_context(|| format!("{} holds no private key", path.display()))?;
        let mut params = valid_for(AUTHORITY_DAYS);
        params.distinguished_name.push(DnType::CommonName, "Waybill's own authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = folder.join("ca.pem");
        if !certificate.exists() {
            fs::write(&certificate, params.self_signed(&key)?.pem()).with_context(|| certificate.display().to_string())?;
        }
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Makes a certificate and a key for a server that is found under these names: `<server>/cert.pem` and `<server>/key.pem`. What it had is
    /// replaced.
    ///
    /// # Errors
    /// Where a name is none, or the files cannot be written.
    pub fn certify(&self, server: &str, names: &[String]) -> anyhow::Result<[PathBuf; 2]> {
        let mut params = valid_for(SERVER_DAYS);
        let named = CertificateParams::new(names).with_context(|| format!("{} are no names of a server", names.join(", ")))?;
        params.subject_alt_names = named.subject_alt_names;
        params.distinguished_name.push(DnType::CommonName, server);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let folder = self.folder.join(server);
        let [pem, secret] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        private::write(&secret, key.serialize_pem())?;
        fs::write(&pem, certificate.pem()).with_context(|| pem.display().to_string())?;
        Ok([pem, secret])
    }

    /// Copies the authority's certificate into a member's folder, so that the folder is all the member needs.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn introduce(&self, member: &str) -> anyhow::Result<()> {
        let folder = self.folder.join(member);
        private::folder(&folder)?;
        let copied = fs::copy(self.folder.join("ca.pem"), folder.join("ca.pem"));
        copied.map(drop).with_context(|| format!("cannot write to {}", folder.display()))
    }
}

/// From yesterday, as clocks differ, for so many days.
fn valid_for(days: u64) -> CertificateParams {
    let date = |date: chrono::DateTime<Utc>| date_time_ymd(date.year(), date.month() as u8, date.day() as u8);
    let now = Utc::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date(now - Days::new(1));
    params.not_after = date(now + Days::new(days));
    params
}
