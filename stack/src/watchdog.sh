# Ends the servers when the process that started them is gone without a word.
# Standard input is a pipe from that process: its end of file is the news of its death, whatever the cause.
# Standard output, when the data folder is kept, is the folder's lock: held until the servers are gone.
# Arguments: the ephemeral folders to remove.
trap '' INT TERM HUP

# A dead process stays in the list until its new parent collects it, which not every container's init hurries to do.
alive() {
    kill -0 "$1" || return 1
    case $(cat "/proc/$1/stat") in *') Z '*) return 1 ;; esac
}

servers=
while read -r word pid signal; do
    case $word in
    add) servers="$servers $pid:$signal" ;;
    remove)
        kept=
        for server in $servers; do
            [ "${server%%:*}" = "$pid" ] || kept="$kept $server"
        done
        servers=$kept
        ;;
    end) exit 0 ;;
    esac
done
for server in $servers; do
    kill -s "${server#*:}" "${server%%:*}"
    kill -s CONT "${server%%:*}"
done 2>/dev/null
tries=0
for server in $servers; do
    while alive "${server%%:*}" && [ "$tries" -lt 70 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -s KILL "${server%%:*}"
done 2>/dev/null
[ $# -eq 0 ] || rm -rf -- "$@"
