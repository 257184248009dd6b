//! Chat templates give the texts that Python's Jinja gives, and hostile ones give errors.

use std::path::PathBuf;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Map, Value};
use sterna_formats::{ChatTemplate, Message, RenderOptions};

fn message(value: &Value) -> Message {
    let mut more = value.as_object().unwrap().clone();
    let mut take = |key: &str| more.shift_remove(key).unwrap().as_str().unwrap().to_owned();
    let (role, content) = (take("role"), take("content"));
    Message { role, content, more }
}

#[test]
fn templates_render_as_in_python() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/templates/cases.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 56);
    for (index, case) in cases.iter().enumerate() {
        let name = case["template"].as_str().unwrap();
        let source = fixture["templates"][name].as_str().unwrap();
        let template = ChatTemplate::new(name, source, "<bos>", "<eos>").unwrap();
        let messages: Vec<Message> = case["messages"].as_array().unwrap().iter().map(message).collect();
        let options = RenderOptions {
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            tools: case["tools"].as_array().cloned(),
            variables: case["variables"].as_object().unwrap().clone(),
            now: UNIX_EPOCH + Duration::from_secs(fixture["now"].as_u64().unwrap()),
        };
        let rendered = template.render(&messages, &options);
        match case["expected"].as_str() {
            Some(expected) => assert_eq!(rendered.unwrap(), expected, "{name}, case {index}"),
            None => {
                let message = rendered.unwrap_err().to_string();
                assert!(message.contains(case["expected"]["error"].as_str().unwrap()), "{message}");
            }
        }
    }
}

fn options() -> RenderOptions {
    RenderOptions { add_generation_prompt: true, tools: None, variables: Map::new(), now: UNIX_EPOCH }
}

#[track_caller]
fn assert_fails(source: &str) -> String {
    let start = Instant::now();
    let messages = [Message::new("user", "Hi")];
    let error = ChatTemplate::new("hostile", source, "", "")
        .and_then(|template| template.render(&messages, &options()))
        .map(|text| text.len())
        .unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(60), "{source}: {:?}", start.elapsed());
    error.to_string()
}

#[test]
fn hostile_templates_fail_and_say_why() {
    let loops = "{% for a in range(99999) %}".repeat(4) + "x" + &"{% endfor %}".repeat(4);
    assert!(assert_fails(&loops).contains("hostile: chat_template"));
    assert_fails("{% for a in range(1000000000) %}x{% endfor %}");
    assert_fails("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}");
    assert_fails("{{ 'a' * 10**9 }}");
    assert_fails("{{ ['a'] * 10**9 }}");
    assert_fails("{% for a in range(9999) %}{{ 'abcdefgh' * 100000 }}{% endfor %}");
    assert_fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    assert_fails("{% macro m(x) %}{{ m(x) }}{{ m(x) }}{% endmacro %}{{ m(1) }}");
    assert_fails("{% include 'chat_template' %}");
    assert_fails("{% include '/etc/passwd' %}");
    assert_fails("{% import 'os' as os %}");
    assert_fails("{% extends 'chat_template' %}");
    assert_fails(&("{{ ".to_owned() + &"(".repeat(60_000)));
    assert_fails(&("{{ ".to_owned() + &"[".repeat(60_000)));
    assert_fails(&"{% if 1 %}".repeat(6_000));
    assert_fails(&"x".repeat((64 << 10) + 1));
    assert_fails("{% set n = namespace() %}{% set n.n = n %}{{ n | tojson }}");
    assert_fails("{{ raise_exception('no') }}");
    assert_fails("{{ messages[0].content.no_such_method() }}");
    assert_fails("{{ strftime_now('%Q') }}");
    assert_fails("{{ debug() }}");
    assert_eq!(outcome("{{ 5 is divisibleby 0 }}"), Ok("False".len()));
}

#[track_caller]
fn outcome(source: &str) -> Result<usize, String> {
    let rendered = ChatTemplate::new("hostile", source, "", "")
        .and_then(|template| template.render(&[Message::new("user", "Hi")], &options()));
    rendered.map(|text| text.len()).map_err(|error| error.to_string())
}

/// The stack must hold whatever fits in the longest source.
#[test]
fn chains_do_not_overflow_the_stack() {
    let chain = |begin: &str, link: &str, end: &str| {
        begin.to_owned() + &link.repeat(((64 << 10) - begin.len() - end.len()) / link.len()) + end
    };
    assert_eq!(outcome(&chain("{{ 1", "+1", " }}")), Ok(5));
    assert_eq!(outcome(&chain("{{ 1", " and 1", " }}")), Ok(1));
    assert_eq!(outcome(&chain("{%if 0%}", "{%elif 0%}", "{%endif%}")), Ok(0));
    for (begin, link) in [("{{ ", "-"), ("{{ ", "not "), ("{{ ", "1 if 0 else ")] {
        assert!(outcome(&chain(begin, link, "1 }}")).is_ok(), "{link}");
    }
    for link in [".a", "[0]", "()", "|a", "**1", " is a"] {
        assert!(outcome(&chain("{{ m", link, " }}")).is_err(), "{link}");
    }
}

/// The stack must hold the deepest value that some hundred thousand steps build.
#[test]
fn nested_values_do_not_overflow_the_stack() {
    let nested = |make: &str, then: &str| {
        let (before, after) = make.split_once('x').unwrap();
        let value = before.repeat(40) + "n.x" + &after.repeat(40);
        format!(
            "{{% set n = namespace(x=[]) %}}{{% for i in range(2200) %}}{{% set n.x = {value} %}}{{% endfor %}}{then}"
        )
    };
    for make in ["[x]", "{1: x}"] {
        assert_eq!(outcome(&nested(make, "")), Ok(0), "{make}");
        for then in
            ["{{ n.x }}", "{{ n.x ~ '' }}", "{{ [n.x, n.x] | sort | length }}", "{{ {n.x: 1} | length }}"]
        {
            assert!(outcome(&nested(make, then)).is_ok(), "{make} {then}");
        }
        assert!(outcome(&nested(make, "{{ n.x | tojson }}")).unwrap_err().contains("tojson"), "{make}");
    }
}

/// Few steps that would build, compare or print without end, and padding that would.
#[test]
fn growth_is_metered() {
    let double = |make: &str| {
        format!(
            "{{% set n = namespace(x='abcdefgh', l=[1], m={{}}) %}}{{% for i in range(60) %}}{make}{{% endfor %}}"
        )
    };
    for make in [
        "{% set n.x = n.x ~ n.x %}",
        "{% set n.x = n.x + n.x %}",
        "{% set n.x = n.x * 2 %}",
        "{% set n.x = [n.x, n.x] | join %}",
        "{% set n.x = n.x | replace('', n.x) %}",
        "{% set n.x = n.x.replace('a', n.x) %}",
        "{% set n.x = n.x.join([n.x, n.x]) %}",
        "{% set n.x = '{0}{0}'.format(n.x) %}",
        "{% set n.x = '%s%s' | format(n.x, n.x) %}",
        "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}",
        "{% set n.x %}{{ n.x }}{% filter upper %}{{ n.x }}{% endfilter %}{% endset %}",
        "{% set n.l = n.l + n.l %}",
        "{% set n.l = n.l * 2 %}",
    ] {
        assert!(assert_fails(&double(make)).contains("more than"), "{make}");
    }
    let shared = double("{% set n.l = [n.l, n.l] %}{% set n.m = {'a': n.m, 'b': n.m} %}");
    for then in [
        "{{ n.l }}",
        "{{ n.m }}",
        "{{ n.l == n.l[0] }}",
        "{{ 1 < n.l < 2 }}",
        "{{ n.l in [n.l[0]] }}",
        "{{ n.l is eq(n.l[0]) }}",
        "{{ {}[n.l] }}",
        "{{ {n.l: 1} }}",
        "{{ n.l ~ '' }}",
        "{{ n.l | string }}",
        "{{ n.l | tojson }}",
        "{{ n.m | tojson }}",
        "{{ [n.l, n.l] | sort }}",
        "{{ [n.l, n.l] | unique }}",
        "{{ [n.l] | map('string') }}",
        "{% for i in [1, 2] %}{{ loop.changed(n.l) }}{% endfor %}",
    ] {
        assert!(assert_fails(&format!("{shared}{then}")).contains("more than"), "{then}");
    }
    assert_fails("{{ '%1000000000d' | format(1) }}");
    assert_fails("{{ '%*d' | format(1000000000, 1) }}");
    assert_fails("{{ '{:>1000000000}'.format('a') }}");
    assert_fails("{{ '{:{}}'.format('a', 1000000000) }}");
    assert_fails("{{ 'a' | indent(1000000000, true) }}");
    assert_fails("{{ 'a' | indent(width=1000000000, first=true) }}");
    assert_fails("{{ ['a'] | batch(1000000000, 'a') }}");
    assert_fails(&format!(
        "{{% set x %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}",
        "x".repeat(60_000)
    ));
}

/// What long conversations need is allowed.
#[test]
fn long_conversations_render() {
    let source = "{% set n = namespace(all='') %}{% for m in messages %}{% if m.role == 'user' and m.content is string %}\
                  {% set n.all = n.all ~ m.content.strip() ~ '\\n' %}{% endif %}{% endfor %}{{ n.all }}";
    let messages: Vec<Message> = (0..1000).map(|_| Message::new("user", "word ".repeat(200))).collect();
    let template = ChatTemplate::new("long", source, "", "").unwrap();
    assert_eq!(template.render(&messages, &options()).unwrap().len(), 1000 * 1000);
}
