package footprint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// neighbourhood is how many bytes of the program's tables may come into the process because of one that is used. The system
// brings 64 kB, of which a service uses a tenth: the linker sorts the tables that the collector looks into (what lies where in
// a frame, which line, which type) by size and name and not by what is used together. Smaller ones save little more, and cost the
// system a mapping each, of about 200 bytes; of this size there are some two thousand.
const neighbourhood = 16 << 10

// ReleaseProgram takes the pages of the program's own file out of the process. Starting up runs through the
// initialisation of every library that is linked in, and the system maps whole neighbourhoods of what that touches; most
// of it is never used again. What is, comes back from the system's cache of the file, without being
// read from disk, and of the tables with few neighbours. Nothing is lost: a part of the file that could have been changed in
// memory is left alone.
func ReleaseProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("find the program's memory: %w", err)
	}
	defer maps.Close()
	parts, err := unchanged(maps, program)
	if err != nil {
		return err
	}
	room, err := mappingsAllowed("/proc/sys/vm/max_map_count")
	for _, p := range parts {
		if p.tables && room > 0 {
			err = errors.Join(err, divide(p, room))
		}
		if e := p.advise(unix.MADV_DONTNEED); e != nil {
			err = errors.Join(err, fmt.Errorf("release %d bytes of the program: %w", p.to-p.from, e))
		}
	}
	return err
}

// usualMappings is how many mappings the system lets a process have where nobody has decided.
const usualMappings = 65_530

// mappingsAllowed is how many it lets this one have. One that runs out of them gets no more memory. In the sandbox of our units the
// setting does not show.
func mappingsAllowed(setting string) (int, error) {
	text, err := os.ReadFile(setting)
	if errors.Is(err, fs.ErrNotExist) {
		return usualMappings, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find how many mappings are allowed: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("vm.max_map_count: %w", err)
	}
	return n, nil
}

// part is a range of addresses.
type part struct {
	from, to uintptr
	tables   bool // it can only be read: no instructions
}

func (p part) advise(advice uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_MADVISE, p.from, p.to-p.from, advice); e != 0 {
		return e
	}
	return nil
}

// divide makes a mapping of each neighbourhood of a part, because the system brings no neighbours from beyond a mapping. Every
// other one is told to stay out of a dump of the process, where no unchanged page of a file is anyway: of all that
// tells mappings apart it is what changes nothing else. Instructions stay in one piece, which is what profilers and debuggers expect.
// It leaves nine tenths of the mappings allowed to others.
func divide(p part, allowed int) error {
	if os.Getpagesize() > neighbourhood {
		return nil // the system brings single pages
	}
	if n := int(p.to-p.from) / neighbourhood; n >= allowed/10 {
		return fmt.Errorf("divide %d bytes of the program: vm.max_map_count is %d, and %d mappings more are a tenth of it or above", p.to-p.from, allowed, n)
	}
	for at := p.from &^ (neighbourhood - 1); at < p.to; at += neighbourhood {
		if at/neighbourhood%2 == 0 {
			continue
		}
		if err := (part{from: max(at, p.from), to: min(at+neighbourhood, p.to)}).advise(unix.MADV_DONTDUMP); err != nil {
			return fmt.Errorf("divide %d bytes of the program: %w", p.to-p.from, err)
		}
	}
	return nil
}

// unchanged finds the parts of a file in a process that are mapped, cannot be written, and have no page of their own.
func unchanged(smaps io.Reader, file string) (parts []part, err error) {
	lines := bufio.NewScanner(smaps)
	var p part
	candidate := false
	for lines.Scan() {
		line := lines.Text()
		var perms, offset, device, inode string
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x %s %s %s %s", &from, &to, &perms, &offset, &device, &inode); n == 6 {
			p = part{from: from, to: to, tables: perms == "r--p"}
			candidate = strings.HasPrefix(perms, "r-") && strings.HasSuffix(perms, "p") && strings.HasSuffix(line, " "+file)
			continue
		}
		if candidate && strings.HasPrefix(line, "Anonymous:") && strings.Join(strings.Fields(line)[1:], " ") == "0 kB" {
			parts = append(parts, p)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the program's memory: %w", err)
	}
	return parts, nil
}
