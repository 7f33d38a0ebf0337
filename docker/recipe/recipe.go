// Package recipe reads the Dockerfiles of this project, so that what `docker
// build` makes of them and what package image makes of them is the same. It
// knows the instructions that an image from scratch needs, in the form in which
// they are written here, and refuses any other.
package recipe

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Copy is one COPY: a folder of the build context whose content goes to a folder
// of the image.
type Copy struct {
	From, To string
	UID, GID int
}

// Recipe is a Dockerfile.
type Recipe struct {
	Copies []Copy
	Config v1.Config
}

// Read reads a Dockerfile; args are the values of its ARGs.
func Read(path string, args map[string]string) (*Recipe, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the recipe of an image: %w", err)
	}
	r, err := parse(string(text), args)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func parse(text string, args map[string]string) (*Recipe, error) {
	r := &Recipe{Config: v1.Config{
		Labels: map[string]string{}, Volumes: map[string]struct{}{}, ExposedPorts: map[string]struct{}{},
	}}
	known := map[string]string{}
	for _, line := range lines(text) {
		name, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if name == "ARG" {
			v, ok := args[rest]
			if !ok {
				return nil, fmt.Errorf("%s: no value was given", line)
			}
			known[rest] = v
			continue
		}
		for k, v := range known {
			rest = strings.ReplaceAll(rest, "${"+k+"}", v)
		}
		if strings.Contains(rest, "$") {
			return nil, fmt.Errorf("%s: a $ that no ARG before it explains", line)
		}
		if err := r.add(name, rest); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	if len(r.Copies) == 0 || len(r.Config.Entrypoint) == 0 {
		return nil, fmt.Errorf("there must be a COPY and an ENTRYPOINT")
	}
	return r, nil
}

// lines joins what ends in a backslash and drops comments.
func lines(text string) []string {
	var out []string
	joined := ""
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if more, ok := strings.CutSuffix(line, `\`); ok {
			joined += more
			continue
		}
		out = append(out, joined+line)
		joined = ""
	}
	return out
}

func (r *Recipe) add(name, rest string) (err error) {
	c := &r.Config
	switch name {
	case "FROM":
		if rest != "scratch" {
			return fmt.Errorf("only scratch")
		}
	case "COPY":
		return r.copy(rest)
	case "ENV":
		c.Env = append(c.Env, strings.Fields(rest)...)
	case "USER":
		c.User = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "EXPOSE":
		for _, port := range strings.Fields(rest) {
			c.ExposedPorts[port] = struct{}{}
		}
	case "VOLUME":
		var all []string
		err = words(rest, &all)
		for _, v := range all {
			c.Volumes[v] = struct{}{}
		}
	case "ENTRYPOINT":
		err = words(rest, &c.Entrypoint)
	case "CMD":
		err = words(rest, &c.Cmd)
	case "HEALTHCHECK":
		c.Healthcheck, err = healthcheck(rest)
	case "LABEL":
		return labels(rest, c.Labels)
	default:
		return fmt.Errorf("an instruction that is not known here")
	}
	return err
}

func words(text string, to *[]string) error {
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return fmt.Errorf("must be a list in brackets, as there is no shell: %w", err)
	}
	return nil
}

func (r *Recipe) copy(rest string) error {
	cp := Copy{}
	fields := strings.Fields(rest)
	if owner, ok := strings.CutPrefix(fields[0], "--chown="); ok {
		if _, err := fmt.Sscanf(owner, "%d:%d", &cp.UID, &cp.GID); err != nil {
			return fmt.Errorf("must be numbers: %w", err)
		}
		fields = fields[1:]
	}
	if len(fields) != 2 || !strings.HasSuffix(fields[0], "/") || !strings.HasSuffix(fields[1], "/") {
		return fmt.Errorf("must copy one folder to another")
	}
	cp.From, cp.To = fields[0], fields[1]
	r.Copies = append(r.Copies, cp)
	return nil
}

func healthcheck(rest string) (*v1.HealthConfig, error) {
	flags, command, ok := strings.Cut(rest, "CMD ")
	if !ok {
		return nil, fmt.Errorf("must have a CMD")
	}
	h := &v1.HealthConfig{}
	for _, f := range strings.Fields(flags) {
		name, v, _ := strings.Cut(f, "=")
		var err error
		switch name {
		case "--interval":
			h.Interval, err = time.ParseDuration(v)
		case "--timeout":
			h.Timeout, err = time.ParseDuration(v)
		case "--start-period":
			h.StartPeriod, err = time.ParseDuration(v)
		case "--retries":
			h.Retries, err = strconv.Atoi(v)
		default:
			err = fmt.Errorf("not known here")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
	}
	var cmd []string
	if err := words(command, &cmd); err != nil {
		return nil, err
	}
	h.Test = append([]string{"CMD"}, cmd...)
	return h, nil
}

// labels reads name="value" pairs; values hold no quotes.
func labels(rest string, to map[string]string) error {
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		name, after, ok := strings.Cut(rest, `="`)
		value, more, closed := strings.Cut(after, `"`)
		if !ok || !closed {
			return fmt.Errorf(`must be name="value" pairs`)
		}
		to[name], rest = value, more
	}
	return nil
}
