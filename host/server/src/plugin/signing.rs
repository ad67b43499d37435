//! `sandbar plugin keygen`, `sign` and `verify`: who vouches for a plugin's file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use sandbar_host::{PublicKey, SecretKey, signers};
use serde_json::json;

use super::facts;
use crate::tool::Tool;

/// What `sandbar plugin keygen` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct KeygenArgs {
    /// The key's name: makes NAME.key, to be kept secret, and NAME.pub, for those who check signatures
    #[arg(value_name = "NAME")]
    name: PathBuf,
}

/// What `sandbar plugin sign` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct SignArgs {
    /// The component, which gets the signature behind those that it has
    #[arg(value_name = "FILE")]
    plugin: PathBuf,

    /// The file of the secret key, as `sandbar plugin keygen` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// Where to write the signed component [default: in place of the one that is signed]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What `sandbar plugin verify` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The component
    #[arg(value_name = "FILE")]
    plugin: PathBuf,

    /// A public key, or a file with one, that has to have signed it; may be repeated, and one is enough
    #[arg(long, value_name = "KEY|FILE")]
    key: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes a pair of keys.
pub(crate) fn keygen(args: &KeygenArgs) -> anyhow::Result<ExitCode> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("the operating system gives no random numbers")?;
    let key = SecretKey::from_bytes(&random);
    let file = |extension: &str| {
        let mut name = args.name.clone().into_os_string();
        name.push(extension);
        PathBuf::from(name)
    };
    let (secret, public) = (file(".key"), file(".pub"));
    write_new(&secret, &key.to_text(), true)?;
    write_new(&public, &key.public().to_string(), false)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} signs; keep it to yourself", secret.display())?;
    writeln!(out, "{} checks: {}", public.display(), key.public())?;
    Ok(ExitCode::SUCCESS)
}

/// A file that is there is somebody's key, and is not written over.
fn write_new(file: &Path, text: &str, secret: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if secret {
        options.mode(0o600);
    }
    let written = options.open(file).and_then(|mut file| writeln!(file, "{text}"));
    written.with_context(|| format!("{} is not written", file.display()))
}

/// Signs a plugin's file.
pub(crate) fn sign(args: &SignArgs) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(&args.key).with_context(|| args.key.display().to_string())?;
    let key: SecretKey = text.parse().with_context(|| format!("{} has no secret key", args.key.display()))?;
    let component = fs::read(&args.plugin).with_context(|| args.plugin.display().to_string())?;
    // What nobody could load is not worth a signature.
    let plugin = facts::load(&Tool::strict()?, &component).with_context(|| args.plugin.display().to_string())?;
    let signed = key.sign(&component).with_context(|| args.plugin.display().to_string())?;
    let output = args.output.as_ref().unwrap_or(&args.plugin);
    replace(output, &signed).with_context(|| format!("{} is not written", output.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {} in {} is signed by {}", plugin.name(), plugin.version(), output.display(), key.public())?;
    Ok(ExitCode::SUCCESS)
}

/// Puts a file in its place whole: a relay that watches it must not see half of it.
fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(bytes)?;
    // As readable as what was there, or as files commonly are.
    let permissions = fs::metadata(file).map_or(Permissions::from_mode(0o644), |there| there.permissions());
    aside.as_file().set_permissions(permissions)?;
    aside.persist(file).map(drop).map_err(|error| error.error)
}

/// Says who has signed a plugin's file.
pub(crate) fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let wanted: Vec<PublicKey> = args.key.iter().map(|key| public_key(key)).collect::<anyhow::Result<_>>()?;
    let component = facts::read(&args.plugin)?;
    let signed = signers(&component).with_context(|| args.plugin.display().to_string());
    let verifies = |by: &[PublicKey]| by.iter().any(|signer| wanted.is_empty() || wanted.contains(signer));
    let mut out = std::io::stdout().lock();
    if args.json {
        let (by, error) = match signed {
            Ok(by) => (by, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        writeln!(out, "{:#}", json!({ "signed_by": by, "verified": verifies(&by), "error": error }))?;
        return Ok(if verifies(&by) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let by = signed?;
    for signer in &by {
        writeln!(out, "signed by {signer}")?;
    }
    match verifies(&by) {
        true => Ok(ExitCode::SUCCESS),
        false if by.is_empty() => bail!("{} is not signed", args.plugin.display()),
        false => bail!("{} is signed by none of these keys", args.plugin.display()),
    }
}

/// A key as it is written, or from a file.
fn public_key(said: &str) -> anyhow::Result<PublicKey> {
    if let Ok(key) = said.parse() {
        return Ok(key);
    }
    let text = fs::read_to_string(said).with_context(|| format!("{said} is neither a public key nor a file"))?;
    text.parse().with_context(|| format!("{said} has no public key"))
}
