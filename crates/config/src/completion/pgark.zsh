#compdef pgark
# Completes the command line of pgark in zsh, by what pgark says can follow. Put this file as _pgark into a directory of
# fpath, or source it after compinit.

_pgark() {
    setopt local_options extended_glob
    local -a found
    found=("${(@f)$("${(Q)words[1]}" completion zsh -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ $found[1] == :files ]]; then
        compset -P '*='
        _files
        return
    fi
    # No blank goes after an equals sign: the value follows.
    local -a valued others
    valued=(${(M)found:#--[a-z0-9-]##=:*})
    others=(${found:#--[a-z0-9-]##=:*})
    _describe pgark valued -S '' -- others
}

if [[ $funcstack[1] == _pgark ]]; then
    _pgark "$@"
else
    compdef _pgark pgark
fi
