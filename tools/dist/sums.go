package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

const sumsName = "SHA256SUMS"

// sums writes the checksums of all files in a folder, as sha256sum --check reads them.
func sums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, e := range entries {
		sum, err := sum(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s  %s\n", sum, e.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsName), text.Bytes(), 0o644)
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// check builds twice, the second time from a copy of the tree at another place, and compares.
func (r release) check() error {
	work, err := os.MkdirTemp("", "harvest-dist-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	first, second := r, r
	second.root, second.out = filepath.Join(work, "elsewhere", "tree"), filepath.Join(work, "second")
	if err := first.make(); err != nil {
		return err
	}
	if err := copyTree(r.root, second.root, ".git", ".tools", ".ci", "bin", "dist", ".harvest"); err != nil {
		return err
	}
	if err := second.make(); err != nil {
		return err
	}
	return compare(first.out, second.out)
}

// compare fails where two folders do not hold the same files with the same bytes.
func compare(a, b string) error {
	var names []string
	for _, dir := range []string{a, b} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	var problems []error
	for _, name := range slices.Compact(names) {
		x, err := sum(filepath.Join(a, name))
		if err != nil {
			return err
		}
		y, err := sum(filepath.Join(b, name))
		if err != nil {
			return err
		}
		if x != y {
			problems = append(problems, fmt.Errorf("%s is not reproducible: %s, then %s", name, x, y))
			continue
		}
		fmt.Printf("same bytes twice: %s  %s\n", x[:16], name)
	}
	return errors.Join(problems...)
}

// copyTree copies a folder, without what is left out at its top.
func copyTree(from, to string, without ...string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(without, e.Name()) {
			continue
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir():
			err = copyTree(src, dst)
		case e.Type().IsRegular():
			err = copyFile(src, dst)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(src, dst string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := create(dst, func(w io.Writer) error { _, err := io.Copy(w, f); return err }); err != nil {
		return err
	}
	return os.Chmod(dst, info.Mode().Perm())
}
