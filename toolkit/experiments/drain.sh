# What a guest runs whose readers draw at once, round after round; see toolkit/experiments/drain.py.
# Before it stand: records (of each reader, how many it may note), limit_s.

tell here
while read -r order round <&3; do
    [ "$order" = round ] || break
    running=
    number=0
    for most in $records; do
        reader_file "reads.$round.$number" "$most"
        timeout -s KILL "$limit_s" "./read.$number" 1<> "/out/reads.$round.$number" &
        running="$running $!"
        number=$((number + 1))
    done
    wait $running
    read -r up _ < /proc/uptime
    echo "$up" > "/out/ended.$round"
    tell over
done
record_machine
