//! What looks like a secret, and is therefore never stored.

use std::path::Path;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Words in the name of a variable or an option whose value is not for others.
const WORDS: [&str; 7] = ["token", "secret", "password", "passwd", "key", "credential", "auth"];

/// How tokens of well-known services begin.
const TOKENS: [&str; 9] = ["ghp_", "gho_", "github_pat_", "glpat-", "hf_", "sk-", "xoxb-", "xoxp-", "AKIA"];

/// The least length of a token.
const TOKEN: usize = 20;

/// Whether the name of a variable or an option says that its value is a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Whether a file, by its name or by a folder that it lies in, holds secrets.
pub fn is_secret_file(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy().to_lowercase();
        let begins = [".env", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "credentials", "secret"];
        let ends = [".env", ".pem", ".key", ".p12", ".pfx", ".jks", ".kdbx", ".keytab", ".ppk"];
        let whole = [".netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd", ".ssh", ".aws", ".gnupg", ".kube"];
        begins.iter().any(|begin| name.starts_with(begin))
            || ends.iter().any(|end| name.ends_with(end))
            || whole.contains(&name.as_str())
    })
}

/// Whether a text holds a private key, a token of a well-known service, or a password in an address.
pub fn holds_secret(text: &str) -> bool {
    text.contains("PRIVATE KEY-----") || text.lines().any(|line| redacted(line) != line)
}

/// The text with passwords in addresses (`user:password@`) and tokens of well-known services taken out.
pub fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| c.is_whitespace() || "\"'`<>(),;=".contains(c)) {
        let end = word.trim_end_matches(|c: char| c.is_whitespace() || "\"'`<>(),;=".contains(c));
        let bare = end.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_token = bare.len() >= TOKEN && TOKENS.iter().any(|begin| bare.starts_with(begin));
        match address_without_password(end) {
            _ if is_token => out.push_str(REDACTED),
            Some(address) => out.push_str(&address),
            None => out.push_str(end),
        }
        out.push_str(&word[end.len()..]);
    }
    out
}

/// `scheme://user:password@host` without what comes before the host; `None` where there is no password.
fn address_without_password(word: &str) -> Option<String> {
    let (scheme, rest) = word.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user, _) = authority.rsplit_once('@')?;
    user.contains(':').then(|| format!("{scheme}://{REDACTED}{}", &rest[user.len()..]))
}

/// A command line without secrets: values of options whose names say so, and all that [`redacted`] takes out.
pub fn redacted_command(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut secret_follows = false;
    arguments
        .into_iter()
        .map(|argument| {
            let (name, value) = argument.split_once('=').map_or((argument.as_str(), None), |(n, v)| (n, Some(v)));
            let is_secret = is_secret_name(name) && !name.contains('/');
            let hidden = std::mem::take(&mut secret_follows) && !argument.starts_with('-');
            secret_follows = is_secret && value.is_none() && argument.starts_with('-');
            match value {
                _ if hidden => REDACTED.into(),
                Some(_) if is_secret => format!("{name}={REDACTED}"),
                _ => redacted(&argument),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_lose_their_secrets_and_nothing_else() {
        let redacted = |line: &str| redacted_command(line.split(' ').map(String::from)).join(" ");
        for (line, expected) in [
            ("reprise run a.yaml --threads 2", "reprise run a.yaml --threads 2"),
            ("x --token abc --jobs 2", "x --token [redacted] --jobs 2"),
            ("x --api-key=abc b", "x --api-key=[redacted] b"),
            ("x HF_TOKEN=abc", "x HF_TOKEN=[redacted]"),
            ("x --data https://me:pass@host/a", "x --data https://[redacted]@host/a"),
            ("x --data=https://me:pa@ss@host/a", "x --data=https://[redacted]@host/a"),
            ("x https://host/a@b:c", "x https://host/a@b:c"),
            ("x git@host:a/b", "x git@host:a/b"),
            ("x hf_abcdefghijklmnopqrstuvwx", "x [redacted]"),
            ("run experiments/key-words.yaml", "run experiments/key-words.yaml"),
        ] {
            assert_eq!(redacted(line), expected);
        }
    }

    #[test]
    fn files_of_secrets_are_known_by_their_names() {
        for name in
            [".env", "a/.env.local", "b/server.pem", "id_rsa", "id_ed25519.pub", "k/TLS.KEY", "credentials.json"]
        {
            assert!(is_secret_file(Path::new(name)), "{name}");
        }
        for name in [".ssh/config", "secrets/a.txt"] {
            assert!(is_secret_file(Path::new(name)), "{name}");
        }
        for name in ["experiment.yaml", "keys.rs", "environment.rs", "tokens.txt", "model.key.md"] {
            assert!(!is_secret_file(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn texts_of_secrets_are_known_by_what_they_hold() {
        for text in [
            "a\n-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "url: postgres://a:b@c/d\n",
            "token = \"ghp_0123456789abcdefghij\"\n",
            "+ghp_0123456789abcdefghij\n",
        ] {
            assert!(holds_secret(text), "{text}");
        }
        assert!(!holds_secret("see https://example.org/a:b, mail a@b.c, or sk-ipped\n"));
    }
}
