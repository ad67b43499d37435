//! What a component is, and why a file is none.

use sandbar_tests::guests;

use crate::program::{file, folder, sandbar};

#[test]
fn a_plugin_says_what_it_is_and_wants() {
    let folder = folder();
    let facts = sandbar(folder.path(), &["plugin", "inspect", "nack-generator", "--json"]).fine().json();
    assert_eq!(facts["name"], "nack-generator");
    assert_eq!(facts["world"], "sandbar:interceptor/batched-interceptor@0.1.0");
    assert_eq!(facts["place"], "loss-detection");
    assert_eq!(facts["wants"], serde_json::json!(["emit-rtcp"]));
    assert_eq!(facts["binds"], serde_json::json!(["remote-streams"]));
    assert_eq!(facts["isolation"], "tenant");
    assert_eq!(facts["digest"].as_str().map(str::len), Some(64));
    let keys: Vec<_> =
        facts["options"].as_array().unwrap().iter().map(|option| option["key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"interval_ms"), "{keys:?}");
    let imports: Vec<_> = facts["imports"].as_array().unwrap().iter().map(|import| import.as_str().unwrap()).collect();
    assert!(imports.contains(&"sandbar:interceptor/emit-rtcp@0.1.0"), "{imports:?}");

    let text = sandbar(folder.path(), &["plugin", "inspect", "nack-generator"]).fine().out;
    for word in ["interval_ms", "emit-rtcp", "binds      remote-streams", "tenant: it sees no media", "loss-detection"]
    {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn a_plugin_that_sees_media_is_kept_to_itself_and_has_to_be_granted_it() {
    let folder = folder();
    file(folder.path(), "typed.wasm", guests::TYPED_COUNTER);
    let facts = sandbar(folder.path(), &["plugin", "inspect", "typed.wasm", "--json"]).fine().json();
    assert_eq!((&facts["lane"], &facts["isolation"]), (&"typed".into(), &"session".into()));
    assert_eq!(facts["wants_beyond_default"], serde_json::json!(["read-media"]));
    assert_eq!(facts["binds"], serde_json::json!(["rtcp-reader", "rtcp-writer", "local-streams", "remote-streams"]));
}

#[test]
fn what_a_plugin_may_do_where_it_is_granted_is_told_apart() {
    let folder = folder();
    let facts = sandbar(folder.path(), &["plugin", "inspect", "packet-dump", "--json"]).fine().json();
    assert_eq!(facts["wants"], serde_json::json!(["wall-clock", "sink"]));
    assert_eq!(facts["wants_beyond_default"], serde_json::json!(["sink"]));
    assert_eq!(facts["may"], serde_json::json!(["read-media"]));
    let text = sandbar(folder.path(), &["plugin", "inspect", "packet-dump"]).fine().out;
    assert!(text.contains("read-media, where the configuration grants it"), "{text}");
}

#[test]
fn the_plugins_of_the_program_are_listed() {
    let folder = folder();
    let plugins = sandbar(folder.path(), &["plugin", "list", "--json"]).fine().json();
    let names: Vec<_> = plugins.as_array().unwrap().iter().map(|plugin| plugin["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.len() >= 8, "{names:?}");
    let text = sandbar(folder.path(), &["plugin", "list"]).fine().out;
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn what_is_no_plugin_is_refused_with_what_it_is() {
    let folder = folder();
    let whole = guests::TRAP;
    let cases: [(&str, &[u8], &[&str]); 8] = [
        ("empty.wasm", b"", &["an empty file"]),
        ("text.wasm", b"(component)", &["text"]),
        ("native.wasm", b"\x7fELF\x02\x01\x01", &["native program"]),
        ("core.wasm", b"\0asm\x01\0\0\0", &["core WebAssembly module", "sandbar plugin build"]),
        ("half.wasm", &whole[..whole.len() / 2], &["truncated or damaged"]),
        ("stub.wasm", &whole[..8], &["exports nothing", "sandbar:interceptor/member@0.1.0"]),
        ("other.wasm", guests::WRONG_WORLD, &["greetings:greeter", "sandbar:interceptor/member@0.1.0"]),
        ("future.wasm", guests::FUTURE_VERSION, &["@0.2.0", "this host speaks", "update the host"]),
    ];
    for (name, bytes, words) in cases {
        file(folder.path(), name, bytes);
        for command in ["inspect", "check"] {
            sandbar(folder.path(), &["plugin", command, name]).fails_with(words);
        }
        let told = sandbar(folder.path(), &["plugin", "inspect", name, "--json"]);
        assert_eq!(told.code, 1);
        assert!(told.json()["error"].as_str().unwrap().contains(words[0]), "{}", told.out);
    }
    sandbar(folder.path(), &["plugin", "inspect", "nowhere.wasm"]).fails_with(&["nowhere.wasm: No such file"]);
    sandbar(folder.path(), &["plugin", "check", "."]).fails_with(&[".: Is a directory"]);
}
