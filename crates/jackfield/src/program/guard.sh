# Jackfield's guard: ends what a killed host leaves behind. src/program/guard.rs says how it is used.
# A line is + or - and an item: `p GROUP MARK`, a program; `d PATH`, a directory of ours.
trap '' HUP INT QUIT TERM PIPE TSTP TTIN TTOU
set -f
nl='
'
list=$nl
while IFS= read -r line; do
  item=${line#?}
  case $line in
    +*) list=$list$item$nl ;;
    -*) case $list in
          *"$nl$item$nl"*) list=${list%%"$nl$item$nl"*}$nl${list#*"$nl$item$nl"} ;;
        esac ;;
  esac
done

# The end of stdin: the host is gone, or nothing is listed any more.
IFS=$nl
marks=
for item in $list; do
  case $item in
    'p '*) group=${item#p }
           kill -s KILL -- "-${group%% *}" 2>/dev/null
           marks=$marks${marks:+$nl}JACKFIELD_GUARD=${item##* } ;;
  esac
done
# Those that left their group, where their variables can be read. One that is killed may have started
# another meanwhile, so it is looked again.
tries=20
while [ -n "$marks" ] && [ -d /proc/self ] && [ $tries -gt 0 ]; do
  tries=$((tries - 1))
  set +f
  found=$(grep -lszxF -e "$marks" /proc/[0-9]*/environ)
  set -f
  [ -n "$found" ] || break
  for file in $found; do
    process=${file#/proc/}
    kill -s KILL "${process%%/*}" 2>/dev/null
  done
done
for item in $list; do
  case $item in
    'd '*) rm -rf -- "${item#d }" || rm -rf -- "${item#d }" ;;
  esac
done
