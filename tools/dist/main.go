// Command dist builds what is handed out: binaries, archives, packages, images, a bill of materials and checksums. The
// same source and version give the same bytes. It is a module of its own, so that none of what it needs is in harvest.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(1)
	}
}

// release is what is built, and where.
type release struct {
	root, out string // the tree, and the folder for what is made of it
	version   string
	commit    string
	at        time.Time // stamp of every file
	platforms []platform
	build     []string // arguments of go build
	gocmd     string
	work      string // folder for what is made on the way
}

type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

const usage = `dist build|check|cluster [flags] -- ARGUMENTS OF go build
  build    makes everything in --out
  check    makes everything twice, from trees at different places, and compares
  cluster  writes the manifests that are made from alert rules and dashboards`

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say what to do\n" + usage)
	}
	var r release
	var platforms string
	var epoch int64
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	flags.StringVar(&r.root, "root", "../..", "the tree")
	flags.StringVar(&r.out, "out", "../../dist", "folder for what is made; its content is replaced")
	flags.StringVar(&r.version, "version", "", "version, as packages write it")
	flags.StringVar(&r.commit, "commit", "unknown", "revision of the source")
	flags.Int64Var(&epoch, "epoch", 0, "SOURCE_DATE_EPOCH: stamp of every file, seconds since 1970")
	flags.StringVar(&platforms, "platforms", "", "OS/ARCH, separated by blanks")
	flags.StringVar(&r.gocmd, "go", "go", "the Go tool")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	r.build = flags.Args()
	r.at = time.Unix(epoch, 0).UTC()
	var err error
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if args[0] == "cluster" {
		return writeManifests(r.root)
	}
	for _, text := range strings.Fields(platforms) {
		system, arch, ok := strings.Cut(text, "/")
		if !ok {
			return fmt.Errorf("--platforms: %q is not OS/ARCH, for example linux/amd64", text)
		}
		r.platforms = append(r.platforms, platform{system, arch})
	}
	switch {
	case len(r.platforms) == 0:
		return errors.New("--platforms names none, for example linux/amd64")
	case epoch <= 0:
		return errors.New("--epoch: without the time of the commit two builds would differ")
	}
	if err := checkVersion(r.version); err != nil {
		return err
	}
	// Read by the packagers and by the writer of the manual.
	if err := os.Setenv("SOURCE_DATE_EPOCH", strconv.FormatInt(epoch, 10)); err != nil {
		return err
	}
	switch args[0] {
	case "build":
		return r.make()
	case "check":
		return r.check()
	}
	return fmt.Errorf("%q is nothing to do\n%s", args[0], usage)
}

// make builds everything into a fresh folder and puts it in place at the end.
func (r release) make() error {
	work, err := os.MkdirTemp("", "harvest-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	r.work = work
	final := r.out
	r.out = filepath.Join(work, "out")
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return err
	}
	docs, err := r.documents()
	if err != nil {
		return err
	}
	var images []platformImage
	for _, p := range r.platforms {
		binary, err := r.binary(p)
		if err != nil {
			return err
		}
		if err := r.archive(p, binary, docs); err != nil {
			return fmt.Errorf("archive for %s: %w", p, err)
		}
		if err := r.bill(p, binary); err != nil {
			return fmt.Errorf("bill of materials for %s: %w", p, err)
		}
		if p.os != "linux" {
			continue
		}
		for _, format := range []string{"deb", "rpm"} {
			if err := r.pack(format, p.arch, binary, docs); err != nil {
				return fmt.Errorf("%s for %s: %w", format, p.arch, err)
			}
		}
		img, err := r.image(p, binary)
		if err != nil {
			return fmt.Errorf("image for %s: %w", p, err)
		}
		images = append(images, platformImage{p, img})
	}
	if err := r.images(images); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	if err := sums(r.out); err != nil {
		return err
	}
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	return copyTree(r.out, final)
}
