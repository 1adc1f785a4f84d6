package footprint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// ReleaseProgram takes the pages of the program's own file out of the process. Starting up runs through the
// initialisation of every library that is linked in, and the system maps whole neighbourhoods of what that touches; most
// of it is never used again. What is, comes back from the system's cache of the file, page by page and without being
// read from disk. Nothing is lost: a part of the file that could have been changed in memory is left alone.
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
	for _, p := range parts {
		if _, _, e := syscall.Syscall(syscall.SYS_MADVISE, p.from, p.to-p.from, syscall.MADV_DONTNEED); e != 0 {
			err = errors.Join(err, fmt.Errorf("release %d bytes of the program: %w", p.to-p.from, e))
		}
	}
	return err
}

// part is a range of addresses.
type part struct{ from, to uintptr }

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
			p = part{from, to}
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
