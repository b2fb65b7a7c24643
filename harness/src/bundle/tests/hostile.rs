//! Bundles that mean harm: each is refused with its own message, and nothing is written where it shouldn't be.

use std::os::unix::fs::symlink;

use super::*;
use crate::store::packed;

const BLOCK: usize = 512;

/// One entry of a tar archive, valid but for what is asked for.
fn entry(name: &str, size: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut header = [0u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:0>11}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = data.len().next_multiple_of(BLOCK) - data.len();
    [&header[..], data, &vec![0; padding]].concat()
}

fn file(name: &str) -> Vec<u8> {
    entry(name, "1", b'0', b"x")
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 2 * BLOCK]].concat()
}

/// Why an archive is refused; everything that it wrote lies where it may.
fn refusal(bytes: &[u8]) -> String {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("bundle.tar");
    fs::write(&path, bytes).unwrap();
    let into = temp.path().join("a/b/into");
    fs::create_dir_all(&into).unwrap();
    let error = archive::unpack(&path, &into).expect_err("it is hostile");
    let mut written = Vec::new();
    walk(temp.path(), "", &mut written).unwrap();
    assert!(written.iter().all(|(name, _)| name == "bundle.tar" || name.starts_with("a/b/into/")), "{written:?}");
    error.to_string()
}

#[test]
fn every_hostile_archive_has_its_own_message() {
    let whole = archive(&[file("a"), file("b")]);
    let mut header = whole.clone();
    header[100] = b'1';
    let mut padding = whole.clone();
    padding[BLOCK + 10] = 1;
    let deep = vec!["d"; 40].join("/");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("out of its folder", archive(&[file("../x")])),
        ("out of its folder, hidden", archive(&[file("a/../../x")])),
        ("absolute", archive(&[file("/tmp/x")])),
        ("symbolic link", archive(&[entry("a", "0", b'2', b"")])),
        ("hard link", archive(&[entry("a", "0", b'1', b"")])),
        ("device", archive(&[entry("a", "0", b'3', b"")])),
        ("pipe", archive(&[entry("a", "0", b'6', b"")])),
        ("folder", archive(&[entry("a", "0", b'5', b"")])),
        ("sparse", archive(&[entry("a", "0", b'S', b"")])),
        ("long name", archive(&[entry("././@LongLink", "4", b'L', b"abcd")])),
        ("extension", archive(&[entry("a", "4", b'x', b"abcd")])),
        ("same name", archive(&[file("a"), file("a")])),
        ("other case", archive(&[file("A"), file("a")])),
        ("file and folder", archive(&[file("a"), file("a/b")])),
        ("order", archive(&[file("b"), file("a")])),
        ("colours", archive(&[file("a\u{1b}[31m")])),
        ("direction", archive(&[file("a\u{202e}fdp.exe")])),
        ("deep", archive(&[file(&deep)])),
        ("huge size", archive(&[entry("a", "77777777777", b'0', b"x")])),
        ("size that is none", archive(&[entry("a", "9x", b'0', b"x")])),
        ("other mode", header),
        ("bytes between files", padding),
        ("cut", whole[..whole.len() - 700].to_vec()),
        ("cut in a file", whole[..BLOCK + 1].to_vec()),
        ("bytes behind", [whole.clone(), vec![0; BLOCK]].concat()),
        ("nothing", Vec::new()),
        ("no archive", vec![b'x'; 4 * BLOCK]),
    ];
    let told: String = cases.iter().map(|(name, bytes)| format!("{name}: {}\n", refusal(bytes))).collect();
    insta::assert_snapshot!(told);
}

#[test]
fn too_many_files_are_refused_while_they_are_counted() {
    let mut known = names::Names::default();
    let last = (0..).map(|n| format!("{n:07}")).map(|name| known.add(&name)).find(Result::is_err);
    assert_eq!(last.unwrap().unwrap_err(), "it holds more than 100000 files");
}

#[test]
fn links_in_a_folder_are_refused_and_never_followed() {
    let planted = Planted::new();
    let root = published(&planted, "bundle");
    let outside = planted.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("private"), "x").unwrap();
    for (name, to) in [("store/link", outside.clone()), ("README.md", outside.join("private"))] {
        let _ = fs::remove_file(root.join(name));
        symlink(&to, root.join(name)).unwrap();
        let error = Bundle::open(&root).unwrap_err();
        assert_eq!(error.to_string(), format!("the bundle is refused: {name:?} is a link"));
        assert!(error.is_no());
        fs::remove_file(root.join(name)).unwrap();
    }
}

#[test]
fn what_is_no_bundle_says_so() {
    let planted = Planted::new();
    let of = |bytes: &[u8]| {
        let path = planted.path("file");
        fs::write(&path, bytes).unwrap();
        let error = Bundle::open(&path).unwrap_err();
        error.to_string().replace(&path.display().to_string(), "FILE")
    };
    assert_eq!(of(b"\x1f\x8b\x08\0\0\0\0\0"), "FILE is compressed (gzip)");
    assert_eq!(of(b"PK\x03\x04...."), "FILE is compressed (zip)");
    let empty = planted.path("empty");
    fs::create_dir(&empty).unwrap();
    assert!(Bundle::open(&empty).unwrap_err().to_string().contains("it has no SHA256SUMS"));
    assert!(matches!(Bundle::open(&planted.path("none")), Err(BundleError::Io { .. })));
}

/// Records that were changed and summed again, so that only reading them can tell.
#[test]
fn records_that_mean_harm_are_refused() {
    let planted = Planted::new();
    let mut told = String::new();
    let manifest = planted.folder_of("decode test").join("manifest.json").display().to_string();
    let mut of = |what: &str, file: &str, change: &dyn Fn(String) -> String| {
        let root = published(&planted, what);
        let path = root.join(file);
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
        sum_again(&root);
        let said = match verified(&root) {
            Err(error) => error.to_string(),
            Ok(found) => {
                let failed = found.areas.values().flat_map(|tally| &tally.failed);
                failed.map(|finding| finding.says.clone()).next().unwrap_or_else(|| "nothing failed".into())
            }
        };
        let said = said.replace(&root.display().to_string(), "BUNDLE").replace(&manifest, "MANIFEST");
        let said: String = said.chars().take(200).collect();
        told.push_str(&format!("{what}: {}\n", said.replace(planted.run().id.as_str(), "RUN")));
    };
    of("newer", about::FILE, &|text| text.replacen("\"format\": 1", "\"format\": 2", 1));
    of("deep", about::FILE, &|_| format!("{{\"x\": {}", "[".repeat(100_000)));
    of("large", about::FILE, &|_| format!("\"{}\"", "x".repeat((RECORD_BYTES + 1) as usize)));
    of("unknown-field", about::FILE, &|text| text.replacen("\"format\": 1", "\"format\": 1, \"x\": 1", 1));
    of("run-elsewhere", about::FILE, &|text| text.replacen(planted.run().id.as_str(), "../../../../etc", 1));
    of("file-elsewhere", &manifest, &|text| text.replacen("hypotheses.tsv", "../../../../../../etc/passwd", 1));
    of("not-a-number", &manifest, &|text| text.replacen("\"value\": 0.5", "\"value\": NaN", 1));
    of("extends-elsewhere", "experiment/toy.yaml", &|text| {
        text.replacen("{", "{\"extends\": \"../../../etc/passwd\",", 1)
    });
    let list = planted.folder_of("corpus test").join("files.txt").display().to_string();
    of("list-elsewhere", &list, &|text| text.replacen("test/a.flac", "../../etc/passwd", 1));
    insta::assert_snapshot!(told);
}

/// A bundle has its records as they are; one that has a record packed is read, but not without bounds.
#[test]
fn a_packed_record_that_holds_too_much_is_refused_by_name() {
    let planted = Planted::new();
    let root = published(&planted, "packed");
    let folder = root.join("store/runs").join(planted.run().id.as_str());
    let pack = |bytes: &[u8]| {
        let (name, packed) = packed::pack("recipe.json", bytes);
        fs::write(folder.join(name), packed).unwrap();
        sum_again(&root);
        let found = verified(&root).unwrap();
        found.areas[&Area::Identities].failed.iter().map(|finding| finding.says.clone()).collect::<Vec<_>>()
    };
    assert_eq!(pack(&fs::read(folder.join("recipe.json")).unwrap()), [""; 0]);
    let damage = format!("{} is damaged: what it holds is larger than 16 MiB", folder.join("recipe.json.gz").display());
    assert_eq!(pack(&vec![b' '; packed::MOST as usize + 1]), [damage]);
}
