package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// archive writes binary and documents as one would unpack them by hand: .tar.gz, and .zip for Windows.
func (r release) archive(p platform, binary string, docs []document) error {
	name := "harvest_" + r.version + "_" + p.os + "_" + p.arch
	ending, write := ".tar.gz", writeTarGz
	if p.os == "windows" {
		ending, write = ".zip", writeZip
	}
	files := []entry{{name: path.Join(name, filepath.Base(binary)), src: binary, mode: 0o755}}
	for _, d := range docs {
		files = append(files, entry{name: path.Join(name, d.path), src: d.src, mode: 0o644})
	}
	slices.SortFunc(files, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return create(filepath.Join(r.out, name+ending), func(w io.Writer) error { return write(w, files, r.at) })
}

// entry is a file of an archive; one without a source is a folder.
type entry struct {
	name, src string
	mode      os.FileMode
	owner     int // number of user and group
}

// create writes a file; an error of its closing counts.
func create(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func writeTarGz(w io.Writer, files []entry, at time.Time) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := writeTar(z, files, at); err != nil {
		return err
	}
	return z.Close()
}

// writeTar writes files with the given stamp, and nothing that would differ from build to build.
func writeTar(w io.Writer, files []entry, at time.Time) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Mode: int64(f.mode), ModTime: at, Format: tar.FormatPAX, Uid: f.owner, Gid: f.owner,
		}
		var text []byte
		if f.src == "" {
			h.Typeflag = tar.TypeDir
		} else {
			var err error
			if text, err = os.ReadFile(f.src); err != nil {
				return err
			}
			h.Size = int64(len(text))
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(text); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeZip(w io.Writer, files []entry, at time.Time) error {
	z := zip.NewWriter(w)
	for _, f := range files {
		text, err := os.ReadFile(f.src)
		if err != nil {
			return err
		}
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: at}
		h.SetMode(f.mode)
		to, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := to.Write(text); err != nil {
			return err
		}
	}
	return z.Close()
}
