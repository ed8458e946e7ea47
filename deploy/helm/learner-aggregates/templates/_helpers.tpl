{{- /* Labels of everything. */ -}}
{{- define "aggregates.labels" -}}
app.kubernetes.io/part-of: learner-aggregates
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- /* Flink's nested configuration as flat keys with strings: (list PREFIX MAP). */ -}}
{{- define "aggregates.flat" -}}
{{- $prefix := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- include "aggregates.flat" (list (printf "%s%s." $prefix $key) $value) -}}
{{- else }}
{{ printf "%s%s" $prefix $key }}: {{ toString $value | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "aggregates.podSecurity" -}}
runAsNonRoot: true
runAsUser: 9999
runAsGroup: 9999
fsGroup: 9999
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "aggregates.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
