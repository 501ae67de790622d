{{- /*
What a replica would refuse to start with (webhook/registry/settings.py) is refused here: those that run keep what was in force before, and
would let the mistake be found by the next one that starts. What one field can be by itself the schema says.
*/ -}}
{{- define "trusted-images.registries" -}}
{{- $hosts := dict -}}
{{- $mirrors := dict -}}
{{- range $i, $entry := .Values.registries.registries -}}
{{- $path := printf "registries.registries[%d]" $i -}}
{{- $host := include "trusted-images.host" (list (print $path ".host") $entry.host) -}}
{{- if hasKey $hosts $host -}}
{{- fail (printf "%s.host: %s stands twice; write all that is said of it into one entry" $path $host) -}}
{{- end -}}
{{- $_ := set $hosts $host true -}}
{{- range $j, $realm := $entry.realms -}}
{{- $_ := include "trusted-images.host" (list (printf "%s.realms[%d]" $path $j) $realm) -}}
{{- end -}}
{{- range $j, $mirror := $entry.mirrors -}}
{{- $source := include "trusted-images.prefix" (list (printf "%s.mirrors[%d].source" $path $j) $mirror.source) -}}
{{- $_ := include "trusted-images.prefix" (list (printf "%s.mirrors[%d].prefix" $path $j) $mirror.prefix) -}}
{{- if hasKey $mirrors $source -}}
{{- fail (printf "%s.mirrors[%d].source: %s has two mirrors; keep one" $path $j $source) -}}
{{- end -}}
{{- $_ := set $mirrors $source true -}}
{{- end -}}
{{- with $entry.ca -}}
{{- include "trusted-images.ca" (list (print $path ".ca") . $entry.plainHTTP $.Values.certificateAuthorities) -}}
{{- end -}}
{{- end -}}
{{- default (dict "registries" (list)) .Values.registries | toYaml -}}
{{- end -}}

{{- /* A host in its one spelling, of (path, host). */ -}}
{{- define "trusted-images.host" -}}
{{- $path := index . 0 -}}
{{- $host := index . 1 | lower -}}
{{- $name := regexReplaceAll ":[0-9]+$" $host "" -}}
{{- if gt (regexFind ":[0-9]+$" $host | trimPrefix ":" | int) 65535 -}}
{{- fail (printf "%s: %s: not a port; it is at most 65535" $path $host) -}}
{{- end -}}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" -}}
{{- if and (regexMatch "(^|\\.)([0-9]+|0x[0-9a-f]*)$" $name) (not (regexMatch (printf "^(%s\\.){3}%s$" $byte $byte) $name)) -}}
{{- fail (printf "%s: %s: an address that is not written in full; write all four numbers" $path $host) -}}
{{- end -}}
{{- $host = trimSuffix ":443" $host -}}
{{- if has $host (list "index.docker.io" "registry-1.docker.io" "registry.hub.docker.com") -}}
{{- $host = "docker.io" -}}
{{- end -}}
{{- $host -}}
{{- end -}}

{{- /* A host, or a host and the beginning of a path, in its one spelling, of (path, text). */ -}}
{{- define "trusted-images.prefix" -}}
{{- $parts := regexReplaceAll "/+$" (index . 1) "" | splitn "/" 2 -}}
{{- include "trusted-images.host" (list (index . 0) $parts._0) -}}
{{- with $parts._1 }}/{{ . }}{{ end -}}
{{- end -}}

{{- /* Refuses an authority that would not be found, of (path, file, plainHTTP, certificateAuthorities). */ -}}
{{- define "trusted-images.ca" -}}
{{- $path := index . 0 -}}
{{- $file := index . 1 -}}
{{- $mount := "/etc/trusted-images/ca" -}}
{{- if index . 2 -}}
{{- fail (printf "%s: without meaning beside plainHTTP; keep one of them" $path) -}}
{{- end -}}
{{- if not (isAbs $file) -}}
{{- fail (printf "%s: %s is no path in the container; a key of certificateAuthorities is at %s/%s" $path $file $mount (base $file)) -}}
{{- end -}}
{{- $key := trimPrefix $mount (clean $file) | trimPrefix "/" -}}
{{- if and (hasPrefix (print $mount "/") (print (clean $file) "/")) (not (hasKey (index . 3) $key)) -}}
{{- fail (printf "%s: %s will be no file, because certificateAuthorities has no key %q. Add it there, with the PEM, or name one that it has (%s)" $path $file $key (keys (index . 3) | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- end -}}
