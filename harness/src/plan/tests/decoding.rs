use super::*;

/// Ways to decode.
pub fn form(number: u8) -> Value {
    match number {
        0 => json!({}),
        1 => json!({ "search": { "beam": { "n-best": 5 } } }),
        2 => json!({
            "search": { "beam": {} }, "lexicon": "language-model",
            "language-model": { "estimate": { "on": ["a"], "discount-fallback": [0.5, 1, 1.5] } },
            "tune": { "on": ["b/clean"], "lm": [0.5, 1], "word": [-1, 0] },
        }),
        _ => json!({
            "search": { "beam": {} }, "lexicon": { "file": "words.txt" },
            "language-model": { "file": { "name": "4-gram.arpa.gz", "missing-unknown": -100 } },
        }),
    }
}

/// A corpus of which everything but `test` may be known to a language model.
fn together_with(forms: &[u8]) -> Experiment {
    let corpus = json!({ "name": "toy", "finetune": ["a"], "validate": ["b/clean"], "test": ["test"] });
    let of = |form: &u8| {
        experiment(json!({ "probing": {}, "corpus": corpus, "strategy": "scratch", "decoding": self::form(*form) }))
    };
    together(&forms.iter().map(of).collect::<Vec<_>>())
}

#[test]
fn ways_to_decode_share_the_fine_tuning_and_runs_share_the_language_model() {
    let experiment = Experiment { seeds: vec![1, 2], ..together_with(&[0, 1, 2, 3]) };
    insta::assert_snapshot!(outline(&Plan::new(&experiment, &contents(&experiment)).unwrap()), @r"
    0: corpus a <- nothing
    1: corpus b/clean <- nothing
    2: finetune seed 1 <- 0 (corpus a), 1 (corpus b/clean)
    3: corpus test <- nothing
    4: decode test <- 3 (corpus test), 2 (fine-tuned model)
    5: finetune seed 2 <- 0 (corpus a), 1 (corpus b/clean)
    6: decode test <- 3 (corpus test), 5 (fine-tuned model)
    7: decode test <- 3 (corpus test), 2 (fine-tuned model)
    8: decode test <- 3 (corpus test), 5 (fine-tuned model)
    9: language model (3-gram of a) <- 0 (corpus a)
    10: tune on b/clean <- 1 (corpus b/clean), 2 (fine-tuned model), 9 (language model), 9 (lexicon)
    11: decode test <- 3 (corpus test), 2 (fine-tuned model), 9 (language model), 9 (lexicon), 10 (decoding weights)
    12: tune on b/clean <- 1 (corpus b/clean), 5 (fine-tuned model), 9 (language model), 9 (lexicon)
    13: decode test <- 3 (corpus test), 5 (fine-tuned model), 9 (language model), 9 (lexicon), 12 (decoding weights)
    14: language model 4-gram.arpa.gz <- nothing
    15: lexicon words.txt <- nothing
    16: decode test <- 3 (corpus test), 2 (fine-tuned model), 14 (language model), 15 (lexicon)
    17: decode test <- 3 (corpus test), 5 (fine-tuned model), 14 (language model), 15 (lexicon)
    ");
}

#[test]
fn a_language_model_from_elsewhere_is_known_by_its_content() {
    let experiment = together_with(&[3]);
    let mut contents = contents(&experiment);
    assert_eq!(contents.files.keys().map(Name::as_str).collect::<Vec<_>>(), ["4-gram.arpa.gz", "words.txt"]);
    let keys = |contents: &Contents| -> Vec<_> {
        let plan = Plan::new(&experiment, contents).unwrap();
        let decode = plan.nodes.last().unwrap();
        assert_eq!(decode.name, "decode test");
        let model = plan.nodes.iter().find(|node| node.name == "language model 4-gram.arpa.gz").unwrap();
        vec![model.key, decode.key]
    };
    let before = keys(&contents);
    assert!(before.iter().all(Option::is_some));
    contents.files.values_mut().for_each(|content| content.0[0] ^= 1);
    assert!(keys(&contents).iter().zip(&before).all(|(now, before)| now.is_some() && now != before));
    contents.files.clear();
    assert_eq!(keys(&contents), [None, None]);
}
