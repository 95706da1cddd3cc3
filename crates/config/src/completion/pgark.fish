# Completes the command line of pgark in fish, by what pgark says can follow. Put this file as pgark.fish into
# ~/.config/fish/completions, or source it.

function __pgark_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program $words[1]
    set -e words[1]
    set -l found ($program completion fish -- $words "$current" 2>/dev/null)
    if test "$found[1]" = :files
        set -l before (string match --regex -- '^--[^=]*=' "$current")
        for path in (__fish_complete_path (string sub --start (math (string length -- "$before") + 1) -- "$current"))
            echo "$before$path"
        end
        return
    end
    string join \n -- $found
end

complete --command pgark --no-files --arguments '(__pgark_complete)'
