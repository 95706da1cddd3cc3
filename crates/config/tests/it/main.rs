//! What a user sees: from a command line, an environment and files to a configuration or an error.

mod command_line;
mod errors;
mod existing_files;
mod files;
mod help;
mod machine;
mod reference;
mod secrets;
mod sources;
mod values;
