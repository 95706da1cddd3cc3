# shellcheck shell=bash
# Completes the command line of pgark in bash, by what pgark says can follow. Source this file, or put it where the
# package bash-completion looks for it, such as /usr/share/bash-completion/completions/pgark.

_pgark() {
    local current=${COMP_WORDS[COMP_CWORD]} index word before
    local -a words=() found=()
    # To bash an equals sign is a word, to pgark a part of one.
    for ((index = 1; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if ((index > 1)) && [[ $word == = || ${COMP_WORDS[index - 1]} == = ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
    mapfile -t found < <("$1" completion bash -- "${words[@]}" 2>/dev/null)
    COMPREPLY=()
    if [[ ${found[0]-} == :files ]]; then
        compopt -o default
        return
    fi
    if ((${#found[@]} == 1)) && [[ ${found[0]} == *= ]]; then
        compopt -o nospace
    fi
    # Only what bash takes for the current word is replaced.
    [[ $current == = ]] && current=
    before=${words[-1]%"$current"}
    COMPREPLY=("${found[@]#"$before"}")
}

complete -F _pgark pgark
