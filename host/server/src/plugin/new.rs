//! `sandbar plugin new`: a plugin's project from a template, with the SDK in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

/// What `sandbar plugin new` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plugin's name: lower-case letters, digits and hyphens
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,

    /// Where the project goes: a folder that does not exist or is empty [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

/// Files of a project by their path in it; those that end in `.in` have the plugin's name to be filled in.
const PROJECT: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/project.rs"));
const NAME: &str = "@NAME@";

/// What cargo takes as part of a package's name and operators can type.
fn name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if begins && text.bytes().all(allowed) && !text.ends_with('-') && !text.contains("--") && text.len() <= 40 {
        return Ok(text.to_owned());
    }
    Err("a name has at most 40 lower-case letters, digits and single hyphens, and begins with a letter, such as my-counter".to_owned())
}

/// Writes the project and says what to do next.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    write(&args.name, &folder)?;
    let mut out = std::io::stdout().lock();
    let shown = folder.display();
    writeln!(out, "{shown} is a plugin that counts packets; src/lib.rs is the whole of it. Next:")?;
    writeln!(out, "  cd {shown}")?;
    writeln!(out, "  cargo test")?;
    writeln!(out, "  sandbar plugin build")?;
    writeln!(out, "  sandbar plugin check {}.wasm", args.name)?;
    Ok(ExitCode::SUCCESS)
}

fn write(name: &str, folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => bail!("{shown} is there already and not empty"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(shown.to_string()),
    }
    for (path, contents) in PROJECT {
        let (path, contents) = match path.strip_suffix(".in") {
            Some(path) => (path, String::from_utf8_lossy(contents).replace(NAME, name).into_bytes()),
            // A file of that name in this repository would hide what is in the template from git.
            None => (if *path == "gitignore" { ".gitignore" } else { path }, contents.to_vec()),
        };
        let file = folder.join(path);
        let parent = file.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        std::fs::write(&file, contents).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_cargo_and_operators_can_use() {
        for good in ["a", "my-counter", "h264-gate", "loop", "std"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "My", "1st", "-a", "a-", "a--b", "a b", "a/b", "../a", "ä", "a_b", &"a".repeat(41)] {
            assert!(name(bad).unwrap_err().contains("my-counter"), "{bad}");
        }
    }

    #[test]
    fn a_project_has_the_template_the_sdk_and_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("meter");
        write("meter", &project).unwrap();
        let text = |path: &str| std::fs::read_to_string(project.join(path)).unwrap();
        assert!(text("Cargo.toml").contains("name = \"sandbar-plugin-meter\""));
        assert!(text("README.md").contains("sandbar plugin check meter.wasm"));
        assert!(text(".gitignore").contains("/target"));
        assert!(text("vendor/sandbar-sdk/src/lib.rs").contains("pub use interceptor::Interceptor"));
        assert!(text("vendor/sandbar-sdk/wit/world.wit").contains("world interceptor"));
        assert!(text("Cargo.lock").contains("wit-bindgen"));
        for (path, _) in PROJECT {
            let file = project.join(if *path == "gitignore" { ".gitignore" } else { path.trim_end_matches(".in") });
            assert!(!std::fs::read_to_string(&file).unwrap().contains(NAME), "{path}");
        }
        let plugin: String = text("src/lib.rs").split("#[cfg(test)]").next().unwrap().to_owned();
        assert!(plugin.lines().filter(|line| !line.trim().is_empty()).count() <= 20, "{plugin}");
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        write("meter", folder.path()).unwrap();
        let why = write("meter", folder.path()).unwrap_err().to_string();
        assert!(why.contains("not empty"), "{why}");
        let why = format!("{:#}", write("meter", &folder.path().join("Cargo.toml")).unwrap_err());
        assert!(why.contains("Cargo.toml: "), "{why}");
    }
}
