//! Models in and out through the program: `reprise import` and `reprise export`. What they compute is `parity/exchange.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{Place, checkout};

/// A place with a copy of a fixture folder as `theirs`.
fn place(name: &str) -> Place {
    let place = Place::empty();
    copy(&checkout().join("tests/fixtures/hugging-face").join(name), &place.path("theirs"));
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// Puts `value` under `key` of a JSON file, or takes it out.
fn set(place: &Place, file: &str, key: &str, value: Value) {
    let path = place.path(file);
    let mut object: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    object[key] = value;
    fs::write(path, object.to_string()).expect("a file");
}

/// Header and data of a tensor file.
fn tensors(place: &Place) -> (serde_json::Map<String, Value>, Vec<u8>) {
    let bytes = fs::read(place.path("theirs/model.safetensors")).expect("a file");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let names: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("JSON");
    (names.as_object().expect("an object").clone(), bytes[8 + header..].to_vec())
}

/// Writes the tensor file anew with its header changed; the data stay.
fn rewrite(place: &Place, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let (mut header, data) = tensors(place);
    change(&mut header);
    let header = Value::from(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    fs::write(place.path("theirs/model.safetensors"), bytes).expect("a file");
}

/// Renames a tensor.
fn rename(header: &mut serde_json::Map<String, Value>, from: &str, to: &str) {
    let info = header.remove(from).unwrap_or_else(|| panic!("no {from}"));
    header.insert(to.into(), info);
}

/// Imports `theirs`, which must be refused without leaving anything, and returns what was said.
fn refused(place: &Place) -> String {
    let before = names(place);
    let began = Instant::now();
    let said = place.reprise(&["import", "hf", "theirs", "ours"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:#?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(names(place), before, "nothing is left behind");
    assert!(!said.err.contains('\u{1b}'), "{:?}", said.err);
    place.redacted(&said.err)
}

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path(".")).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_model_goes_in_and_out() {
    let place = place("hubert-ctc");
    let said = place.reprise(&["import", "hf", "theirs", "ours"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    insta::assert_snapshot!("import", place.redacted(&format!("{}{}", said.out, said.err)));
    let said = place.json(&["export", "hf", "ours", "again", "--json"]);
    assert_eq!(said["summary"][0]["name"], "parameters");
    for name in
        ["config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"]
    {
        let text = fs::read_to_string(place.path("again").join(name)).expect("a file");
        insta::assert_snapshot!(name.replace('.', "_"), text);
    }
    let taken = place.reprise(&["import", "hf", "theirs", "ours"]);
    assert_eq!(taken.code, Some(2));
    assert!(taken.err.contains("is there already"), "{}", taken.err);
}

#[test]
fn a_folder_of_links_is_read_as_a_download_cache_has_it() {
    let place = place("hubert-layer");
    fs::create_dir(place.path("links")).expect("a folder");
    for entry in fs::read_dir(place.path("theirs")).expect("a folder").flatten() {
        symlink(entry.path(), place.path("links").join(entry.file_name())).expect("a link");
    }
    let said = place.reprise(&["import", "hf", "links", "ours"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    symlink("nowhere", place.path("taken")).expect("a link");
    assert_eq!(place.reprise(&["import", "hf", "links", "taken"]).code, Some(2), "a dangling link is taken too");
    assert!(!place.path("nowhere").exists());
}

#[test]
fn configs_of_other_networks_are_refused_by_key_and_value() {
    let mut all = String::new();
    for (key, value) in [
        ("hidden_act", json!("relu")),
        ("feat_extract_norm", json!("batch")),
        ("layer_norm_eps", json!(1e-6)),
        ("conv_pos_batch_norm", json!(true)),
        ("model_type", json!("whisper")),
        ("architectures", json!(["HubertForSequenceClassification"])),
        ("conv_stride", json!([5, 2, 2, 2, 2, 2, 4])),
        ("conv_dim", json!([8, 8, 8, 8, 8, 8, 16])),
        ("num_attention_heads", json!(5)),
        ("hidden_size", json!(-12)),
        ("hidden_size", json!(960_000)),
        ("num_hidden_layers", json!(1_000_000)),
        ("hidden_dropout", json!("\u{1b}[31mred")),
        ("pad_token_id", json!(4)),
        ("quantization_config", json!({"bits": 4})),
    ] {
        let place = place("hubert-ctc");
        set(&place, "theirs/config.json", key, value);
        all += &refused(&place);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn tensors_of_other_networks_are_refused_by_name() {
    let mut all = String::new();
    let layer = "hubert.encoder.layers.1.final_layer_norm.bias";
    type Change = Box<dyn FnOnce(&mut serde_json::Map<String, Value>)>;
    let changes: [Change; 5] = [
        Box::new(|header| rename(header, layer, "hubert.encoder.layers.2.final_layer_norm.bias")),
        Box::new(|header| header[layer]["shape"] = json!([3, 4])),
        Box::new(|header| {
            header[layer] = json!({"dtype": "I32", "shape": [12], "data_offsets": header[layer]["data_offsets"]})
        }),
        Box::new(|header| {
            for index in 0..6 {
                rename(
                    header,
                    &format!("hubert.feature_extractor.conv_layers.{index}.conv.weight"),
                    &format!("\u{7}{index}"),
                );
            }
        }),
        Box::new(|header| rename(header, layer, "encoder.pos_conv_embed.conv.parametrizations.weight.original0")),
    ];
    for change in changes {
        let place = place("hubert-ctc");
        rewrite(&place, change);
        all += &refused(&place);
    }
    let place = place("hubert-layer");
    set(&place, "theirs/config.json", "conv_bias", json!(false));
    all += &refused(&place);
    insta::assert_snapshot!(all);
}

#[test]
fn biases_that_are_not_announced_pass_if_they_are_zero() {
    let place = place("hubert-layer");
    set(&place, "theirs/config.json", "conv_bias", json!(false));
    let (header, mut data) = tensors(&place);
    for (_, info) in header.iter().filter(|(name, _)| name.ends_with(".conv.bias") && name.contains("conv_layers")) {
        let offset = |end: usize| info["data_offsets"][end].as_u64().expect("an offset") as usize;
        data[offset(0)..offset(1)].fill(0);
    }
    let header = Value::from(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    fs::write(place.path("theirs/model.safetensors"), bytes).expect("a file");
    let said = place.reprise(&["import", "hf", "theirs", "ours"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("left out: 7 biases of convolutions, which are zero"), "{}", said.err);
}

#[test]
fn files_that_are_not_what_their_names_say_are_refused() {
    let mut all = String::new();
    let weights = "theirs/model.safetensors";
    let whole = fs::read(place("hubert-ctc").path(weights)).expect("a file");
    let header = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes"));
    let more = [&(header + (1 << 40)).to_le_bytes()[..], &whole[8..]].concat();
    let beyond = [&(header + whole.len() as u64).to_le_bytes()[..], &whole[8..]].concat();
    for bytes in
        [&b"not tensors at all"[..], &whole[..whole.len() - 1], &whole[..100], &more, &beyond, b"PK\x03\x04torch", b""]
    {
        let place = place("hubert-ctc");
        fs::write(place.path(weights), bytes).expect("a file");
        all += &refused(&place);
    }
    for text in ["", "[]", "{\"model_type\":", &format!("{}{{}}", " ".repeat(1 << 20))] {
        let place = place("hubert-ctc");
        place.write("theirs/config.json", text);
        all += &refused(&place);
    }
    for gone in ["config.json", "model.safetensors", "vocab.json"] {
        let place = place("hubert-ctc");
        fs::remove_file(place.path("theirs").join(gone)).expect("a file");
        all += &refused(&place);
        fs::create_dir(place.path("theirs").join(gone)).expect("a folder");
        all += &refused(&place);
    }
    let place = place("hubert-ctc");
    fs::rename(place.path(weights), place.path("theirs/pytorch_model.bin")).expect("another name");
    all += &refused(&place);
    insta::assert_snapshot!(all);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let place = place("hubert-ctc");
    fs::remove_file(place.path("theirs/config.json")).expect("a file");
    let made = std::process::Command::new("mkfifo").arg(place.path("theirs/config.json")).status().expect("mkfifo");
    assert!(made.success());
    assert!(refused(&place).contains("is not a regular file"));
}

#[test]
fn what_is_no_model_is_not_exported() {
    let place = place("hubert-ctc");
    let mut all = String::new();
    for arguments in [
        &["export", "hf", "theirs", "out"][..],
        &["export", "hf", "20260101", "out"],
        &["import", "hf", "nowhere", "out"],
        &["import", "hf", "theirs", "no/where"],
        &["import", "torchaudio", "theirs/model.safetensors", "out"],
        &["import", "fairseq", "theirs/config.json", "out"],
    ] {
        let said = place.reprise(arguments);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments:?}: {said:#?}");
        all += &format!("──── reprise {} ────\n{}", arguments.join(" "), place.redacted(&said.err));
    }
    assert!(!place.path("out").exists());
    insta::assert_snapshot!(all);
}

/// A network that `transformers` doesn't have is refused with the reason.
#[test]
fn networks_that_transformers_lacks_are_not_exported() {
    let mut all = String::new();
    for (key, value) in [
        ("front-end", json!({"log-mel": {"bins": 20}})),
        ("hierarchy", json!({"layers": [1, 1, 1]})),
        ("encoder", json!({"relative-positions": {}})),
    ] {
        let place = place("hubert-ctc");
        let network = json!({ key: value });
        let about = json!({"network": network, "output": "backbone"});
        fs::create_dir(place.path("ours")).expect("a folder");
        place.write("ours/model.json", &about.to_string());
        let said = place.reprise(&["export", "hf", "ours", "out"]);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:#?}");
        assert!(!place.path("out").exists());
        all += &place.redacted(&said.err);
    }
    insta::assert_snapshot!(all);
}

/// Fine-tuned here, exported from the run, and read again as if it came from elsewhere.
#[test]
fn a_run_s_models_are_exported_by_its_id() {
    let place = Place::with_corpus();
    place.write("wave.yaml", &crate::place::SHORTEST.replace("log-mel: { bins: 20 }", "wave: { channels: 8 }"));
    let made = place.json(&["run", "wave.yaml", "--json"]);
    let id = made[0]["record"]["id"].as_str().expect("an id").to_owned();
    let said = place.reprise(&["export", "hf", &id[..15], "out", "--fine-tuned"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let config: Value =
        serde_json::from_slice(&fs::read(place.path("out/config.json")).expect("a file")).expect("JSON");
    assert_eq!(config["architectures"], json!(["HubertForCTC"]));
    assert_eq!(place.reprise(&["import", "hf", "out", "in"]).code, Some(0));
    let said = place.reprise(&["export", "hf", &id, "other", "--iteration", "1"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("has no model of iteration 1"), "{}", said.err);
}
