package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// imageUser is nobody on most systems; a number, so that it can be seen not to be root.
const imageUser = 65532

// imageName is what the image is called where it is loaded.
const imageName = "quantum-harvest"

type platformImage struct {
	platform
	v1.Image
}

// roots are the certificates of the authorities that browsers trust, from a Go module: those of the builder would
// differ from place to place. Those that are trusted for a part of the names only cannot be written down this way.
func roots() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			// Writing to a buffer does not fail.
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return text.Bytes()
}

// image is an empty base with the program, the certificates and nothing else: no shell, no library.
func (r release) image(p platform, binary string) (v1.Image, error) {
	certs := filepath.Join(r.work, "ca-certificates.crt")
	if err := os.WriteFile(certs, roots(), 0o644); err != nil {
		return nil, err
	}
	layerPath := filepath.Join(r.work, p.os+"-"+p.arch, "layer.tar")
	err := create(layerPath, func(w io.Writer) error {
		return writeTar(w, []entry{
			// A volume that is mounted there for the first time takes over the owner.
			{name: "data/", mode: 0o750, owner: imageUser},
			{name: "etc/ssl/certs/ca-certificates.crt", src: certs, mode: 0o644},
			{name: "usr/bin/harvest", src: binary, mode: 0o755},
		}, r.at)
	})
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromFile(layerPath, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: r.at}, CreatedBy: "harvest"}}); err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = p.os, p.arch, v1.Time{Time: r.at}
	file.Config = v1.Config{
		User: fmt.Sprintf("%d:%d", imageUser, imageUser), WorkingDir: "/", Entrypoint: []string{"/usr/bin/harvest"}, Cmd: []string{"--help"},
		Env: []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "harvest",
			"org.opencontainers.image.description": "Exit desk for automated trading",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     r.version,
			"org.opencontainers.image.revision":    r.commit,
			"org.opencontainers.image.created":     r.at.Format("2006-01-02T15:04:05Z"),
		},
	}
	return mutate.ConfigFile(img, file)
}

// images writes each image for itself, and where there are several all of them under one index.
func (r release) images(list []platformImage) error {
	for _, i := range list {
		if err := r.imageTar("_"+i.os+"_"+i.arch, i); err != nil {
			return err
		}
	}
	if len(list) > 1 {
		return r.imageTar("_linux", list...)
	}
	return nil
}

// imageTar writes an OCI archive. One of a single platform can also be read by "docker load" of any age, through a second
// table of contents.
func (r release) imageTar(suffix string, list ...platformImage) error {
	name := imageName + ":" + tag(r.version)
	dir := filepath.Join(r.work, "image"+suffix)
	named := map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag(r.version)}
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if len(list) == 1 {
		err = at.AppendImage(list[0], layout.WithAnnotations(named), layout.WithPlatform(v1.Platform{OS: list[0].os, Architecture: list[0].arch}))
	} else {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, i := range list {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{
				Add: i, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: i.os, Architecture: i.arch}},
			})
		}
		err = at.AppendIndex(index, layout.WithAnnotations(named))
	}
	if err != nil {
		return err
	}
	if len(list) == 1 {
		if err := dockerTable(dir, name, list[0]); err != nil {
			return err
		}
	}
	var files []entry
	err = filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, file)
			files = append(files, entry{name: filepath.ToSlash(rel), src: file, mode: 0o644})
		}
		return err
	})
	if err != nil {
		return err
	}
	return create(filepath.Join(r.out, "harvest_"+r.version+suffix+".oci.tar"), func(w io.Writer) error { return writeTar(w, files, r.at) })
}

func dockerTable(dir, name string, img v1.Image) error {
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	blob := func(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }
	table := tarball.Descriptor{Config: blob(config), RepoTags: []string{name}}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		table.Layers = append(table.Layers, blob(digest))
	}
	text, err := json.Marshal(tarball.Manifest{table})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(strings.TrimSpace(string(text))+"\n"), 0o644)
}
