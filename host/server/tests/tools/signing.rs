//! Keys, signatures, and who has signed.

use crate::program::{file, folder, sandbar};

#[test]
fn what_is_signed_is_verified_by_the_key_and_by_no_other() {
    let folder = folder();
    let noop = sandbar_plugins::by_name("noop").unwrap().component;
    file(folder.path(), "mine.wasm", noop);
    for name in ["acme", "other"] {
        let said = sandbar(folder.path(), &["plugin", "keygen", name]).fine().out;
        assert!(said.contains(&format!("{name}.pub checks: ed25519:")), "{said}");
    }
    let secret = std::fs::read_to_string(folder.path().join("acme.key")).unwrap();
    let public = std::fs::read_to_string(folder.path().join("acme.pub")).unwrap();
    assert!(secret.trim() != public.trim());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.path().join("acme.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only its owner reads it");
    }
    sandbar(folder.path(), &["plugin", "keygen", "acme"]).fails_with(&["acme.key is not written"]);

    let verify = ["plugin", "verify", "mine.wasm"];
    sandbar(folder.path(), &verify).fails_with(&["mine.wasm is not signed"]);
    let said = sandbar(folder.path(), &["plugin", "sign", "mine.wasm", "--key", "acme.key"]).fine().out;
    assert!(said.contains("noop") && said.contains(public.trim()), "{said}");
    assert_eq!(sandbar(folder.path(), &verify).fine().out.trim(), format!("signed by {}", public.trim()));
    sandbar(folder.path(), &["plugin", "verify", "mine.wasm", "--key", "other.pub", "--key", public.trim()]).fine();
    let by_other = ["plugin", "verify", "mine.wasm", "--key", "other.pub"];
    sandbar(folder.path(), &by_other).fails_with(&["signed by none of these keys"]);
    let facts = sandbar(folder.path(), &["plugin", "inspect", "mine.wasm", "--json"]).fine().json();
    assert_eq!(facts["signed_by"], serde_json::json!([public.trim()]));

    let mut changed = std::fs::read(folder.path().join("mine.wasm")).unwrap();
    changed[noop.len() / 2] ^= 1;
    file(folder.path(), "mine.wasm", &changed);
    sandbar(folder.path(), &verify).fails_with(&["it was changed, or signed by somebody else"]);
    sandbar(folder.path(), &["plugin", "inspect", "mine.wasm"]).fails_with(&["it was changed"]);
}

#[test]
fn what_is_no_plugin_or_no_key_is_not_signed() {
    let folder = folder();
    file(folder.path(), "mine.wasm", b"not a component");
    file(folder.path(), "my.key", b"ed25519:12");
    sandbar(folder.path(), &["plugin", "keygen", "acme"]).fine();
    for key in ["acme.key", "my.key", "nowhere.key"] {
        let names = if key == "acme.key" { "mine.wasm" } else { key };
        sandbar(folder.path(), &["plugin", "sign", "mine.wasm", "--key", key]).fails_with(&[names]);
    }
    let unknown = ["plugin", "verify", "noop", "--key", "nokey"];
    sandbar(folder.path(), &unknown).fails_with(&["nokey is neither a public key nor a file"]);
}
