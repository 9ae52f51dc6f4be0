package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"regexp"

	yaml "go.yaml.in/yaml/v4"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// inType is what the decoder says besides of what it does not know or take: a Go type.
var inType = regexp.MustCompile(` (in type|into) .*`)

// readChanges reads the changes of a roll-out. Tenants are named as people do.
func (a *app) readChanges(ctx context.Context, d api, file string) ([]directory.RolloutChange, error) {
	from := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("name a file with a list of changes: cellctl rollout create --help", "%s", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, 4<<20))
	if err != nil {
		return nil, err
	}
	var in struct {
		Changes []struct {
			Cell      directory.CellID `yaml:"cell"`
			Address   string           `yaml:"address"`
			Tenant    string           `yaml:"tenant"`
			Suspended *bool            `yaml:"suspended"`
			Hosts     *[]string        `yaml:"hosts"`
		} `yaml:"changes"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(text)) // YAML is a superset of JSON
	dec.KnownFields(true)
	if err := dec.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return nil, usage("cellctl rollout create --help shows the form", "%s: %s", file, inType.ReplaceAllString(err.Error(), ""))
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, usage("put all changes into one list", "%s has more than one document", file)
	}
	if len(in.Changes) == 0 || len(in.Changes) > directory.MostChanges {
		return nil, usage("cellctl rollout create --help shows the form", "%s has %d changes: 1 to %d can be rolled out at once", file, len(in.Changes), directory.MostChanges)
	}
	var out []directory.RolloutChange
	for _, c := range in.Changes {
		change := directory.RolloutChange{Cell: c.Cell, Address: c.Address, Suspended: c.Suspended, Hosts: c.Hosts}
		if c.Tenant != "" {
			if change.Tenant, err = directory.ParseTenantID(c.Tenant); err != nil {
				t, err := findTenant(ctx, d, c.Tenant)
				if err != nil {
					return nil, err
				}
				change.Tenant = t.ID
			}
		}
		if (change.Cell == "") == (change.Tenant == 0) {
			return nil, hinted{problem.New(problem.Invalid, "%s: a change names a cell or a tenant", file), "cellctl rollout create --help shows the form"}
		}
		out = append(out, change)
	}
	return out, nil
}
