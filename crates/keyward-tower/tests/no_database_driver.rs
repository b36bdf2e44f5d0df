//! Whoever takes the door home takes no database with it: neither the crate nor its example links a driver, and the
//! README shows the example as it is.

use std::process::Command;

#[test]
fn neither_the_crate_nor_its_example_depends_on_a_database_driver() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "keyward-tower", "--edges", "normal,dev", "--prefix", "none", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"keyward-core") && names.contains(&"axum"), "the tree is whole:\n{tree}");
    let is_driver = |name: &&str| {
        name.starts_with("sqlx") || name.contains("sqlite") || name.contains("postgres") || **name == *"keyward"
    };
    assert_eq!(names.iter().copied().find(|name| is_driver(name)), None);
}

#[test]
fn the_readme_shows_the_example_and_it_is_short() {
    let example = include_str!("../examples/invoices.rs");
    assert!(example.lines().count() <= 30);
    assert!(include_str!("../README.md").contains(example));
}
