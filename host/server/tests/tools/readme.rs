//! What the documentation tells people to type, and where it sends them.

use std::path::{Path, PathBuf};

use clap::Parser;
use sandbar::cli::Cli;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Markdown file of the project.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() && name != "target" && !name.starts_with('.') {
            documents(&path, found);
        } else if name.ends_with(".md") || name.ends_with(".md.in") {
            found.push(path);
        }
    }
}

/// The commands in a document: in indented and fenced blocks, each part between `&&`, without comments.
fn commands(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with("    ") {
            let line = line.split(" #").next().unwrap_or(line);
            let line = line.trim().trim_start_matches("$ ");
            commands.extend(line.split("&&").map(|command| command.trim().to_owned()));
        }
    }
    commands
}

/// As a shell takes words apart, as far as documents go.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in command.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            None if letter == ' ' => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_in_the_documents_is_one_that_the_programs_know() {
    let help = std::fs::read_to_string(root().join("x")).unwrap();
    let mut documents_ = Vec::new();
    documents(&root(), &mut documents_);
    let mut known = 0;
    for document in documents_ {
        for command in commands(&std::fs::read_to_string(&document).unwrap()) {
            let mut words = words(&command);
            let Some(program) = words.first().cloned() else { continue };
            if program == "./x" {
                let command = words.get(1).map_or("help", String::as_str);
                assert!(help.contains(&format!("\n./x {command} ")), "{}: ./x {command}", document.display());
                known += 1;
            } else if program == "sandbar" || program.ends_with("/sandbar") {
                if let Some(redirection) = words.iter().position(|word| ["|", ">", "&"].contains(&word.as_str())) {
                    words.truncate(redirection);
                }
                if let Err(error) = Cli::try_parse_from(&words)
                    && error.use_stderr()
                {
                    panic!("{}: {command}\n{error}", document.display());
                }
                known += 1;
            }
        }
    }
    assert!(known >= 10, "only {known} commands were found");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut documents_ = Vec::new();
    documents(&root(), &mut documents_);
    for document in documents_.iter().filter(|document| document.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or(target);
            if path.is_empty() || path.contains("://") || path.contains(' ') {
                continue;
            }
            let path_ = document.parent().unwrap().join(path);
            assert!(path_.exists(), "{} links to {path}, which is not there", document.display());
        }
    }
}
