"""Chat templates: honest ones in the manner of the model families, and inert hostile ones. Nothing here is rendered."""

from __future__ import annotations

HONEST = {
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
        "+ '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama": (
        "{{- bos_token }}\n{%- if not date_string is defined %}\n{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
        "{%- endif %}{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
        "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
        "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{%- if tools is not none %}{%- for t in tools %}"
        "{{- t | tojson(indent=4) }}{%- endfor %}{%- endif %}{{- system_message }}"
        "{%- for message in messages %}{%- if not (message.role == 'ipython' or 'tool_calls' in message) %}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot|>' }}"
        "{%- elif 'tool_calls' in message %}{%- if not message.tool_calls|length == 1 %}"
        "{{- raise_exception('This model only supports single tool-calls at once!') }}{%- endif %}"
        "{%- set tool_call = message.tool_calls[0].function %}{{- tool_call.name + '.call(' }}"
        "{%- for arg_name, arg_val in tool_call.arguments | items %}{{- arg_name + '=\"' + arg_val + '\"' }}"
        "{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}{{- ')' }}{%- endif %}{%- endfor %}"
    ),
    "reasoning": (
        "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}"
        "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
        "{%- if ns.multi_step_tool and message.role == 'user' and not(message.content.startswith('<tool_response>') and "
        "message.content.endswith('</tool_response>')) %}{%- set ns.multi_step_tool = false %}"
        "{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}{%- for message in messages %}"
        "{%- set content = message.content %}{%- set reasoning_content = '' %}{%- if '</think>' in content %}"
        "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}"
        "{%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}"
        "{%- endif %}{%- if loop.index0 > ns.last_query_index %}"
        "{{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content }}"
        "{%- endif %}{%- endfor %}"
    ),
    "tools with a recursive macro": (
        "{%- macro render_type(spec, required=[]) -%}{%- if spec.type == 'array' -%}"
        "{{- render_type(spec['items'], required) + '[]' -}}{%- elif spec.type == 'object' -%}{{- '{' }}"
        "{%- for name, inner in spec.properties.items() -%}{{ name }}: {{ render_type(inner, required) }}"
        "{%- if not loop.last %}, {% endif -%}{%- endfor -%}{{- '}' }}{%- else -%}{{- spec.type -}}{%- endif -%}"
        "{%- endmacro -%}{%- macro tool_namespace(tools) -%}{%- for tool in tools -%}"
        "{{- 'type ' + tool.function.name + ' = ' + render_type(tool.function.parameters) }}{%- endfor -%}"
        "{%- endmacro -%}{{- tool_namespace(tools) }}"
    ),
    "instruct": (
        "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
        "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
        "{%- set user_messages = loop_messages | selectattr('role', 'equalto', 'user') | list %}"
        "{%- set ns = namespace() %}{%- set ns.index = 0 %}{%- for message in loop_messages %}"
        "{%- if (message['role'] == 'user') != (ns.index % 2 == 0) %}"
        "{{- raise_exception('roles must alternate user/assistant') }}{%- endif %}{%- set ns.index = ns.index + 1 %}"
        "{%- if message.tool_calls is defined and message.tool_calls is not none %}{{- '[TOOL_CALLS] [' }}"
        "{%- for tool_call in message.tool_calls %}{%- set out = tool_call.function|tojson %}{{- out[:-1] }}"
        "{%- if not tool_call.id is defined or tool_call.id|length != 9 %}{{- raise_exception('ids have 9 letters') }}"
        "{%- endif %}{{- ', \"id\": \"' + tool_call.id + '\"}' }}{%- endfor %}{%- endif %}{%- endfor %}"
    ),
    "older": (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
        "{% set ns = namespace(is_first=false, is_tool=false, system_prompt='') %}{%- for message in messages %}"
        "{%- if message['role'] == 'system' %}{% set ns.system_prompt = ns.system_prompt + '\n\n' + message['content'] %}"
        "{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}"
        "{%- if message['role'] == 'user' %}{{'<\uff5cUser\uff5c>' + message['content']}}{%- endif %}"
        "{%- if message['role'] == 'assistant' %}{% generation %}{{'<\uff5cAssistant\uff5c>' + message['content'] + "
        "'<\uff5cend\u2581of\u2581sentence\uff5c>'}}{% endgeneration %}{%- endif %}{%- endfor -%}"
    ),
    "pictures": (
        "{%- for message in messages -%}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else "
        "message['role']) + '\n' }}{%- if message['content'] is string -%}{{ message['content'] | trim }}"
        "{%- elif message['content'] is iterable -%}{%- for item in message['content'] -%}"
        "{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}"
        "{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- else -%}{{ raise_exception('Invalid content type') }}"
        "{%- endif -%}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    ),
    "joined": (
        "{% for m in messages %}{% if m.content is not string %}"
        "{% set text = m.content | map(attribute='text') | join(' ') | replace('  ', ' ') %}{% else %}"
        "{% set text = m.content %}{% endif %}{{ '%s: %s' | format(m.role | upper, text) }}{{ '  ' * loop.depth }}"
        "{% if loop.index is divisibleby 2 %}{% continue %}{% endif %}{{ m.server ~ '__' ~ m.name }}{% endfor %}"
    ),
    "names of its own": (
        "{% macro kind(p) %}{{ p.type | default('any') }}{% endmacro %}{% set ns = namespace(last=0, text='') %}"
        "{% for m in messages %}{% set ns.last = ns.last + 1 %}{% set ns.text = ns.text ~ m.content %}{% endfor %}"
        "{% set shown %}{{ ns.text }}{% endset %}{{ shown }}{{ messages[ns.last - 1].role }}{{ messages[ns.last] }}"
        "{% for key in tools[0].parameters | list %}{{ key ~ kind(tools[0].parameters[key]) }}{% endfor %}"
        "{% for key, value in tools[0] | dictsort %}{{ tools[0][key] }}{% endfor %}"
    ),
    "about python": "{% for m in messages %}Never run os.system or subprocess. {{ m['content'] }}{% endfor %}",
}
"""Templates that must be clean."""

REACHING = {
    "attribute": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "item": "{{ messages['__class__'] }}",
    "escaped": "{{ messages['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "concatenated": "{{ messages['__cla' ~ 'ss__'] }}",
    "through variables": "{% set u = '__' %}{% set c = 'class' %}{{ messages[u ~ c ~ u] }}",
    "joined": "{{ messages[['__', 'class', '__'] | join] }}",
    "replaced": "{{ messages['XXclassXX' | replace('X', '_')] }}",
    "reversed": "{{ messages['__ssalc__' | reverse] }}",
    "sliced": "{{ messages['__ssalc__'[::-1]] }}",
    "formatted": "{{ messages['%sclass%s' | format('__', '__')] }}",
    "key of dict": "{{ dict(__class__=1) | join }}",
    "filter attr": "{{ messages | attr('__class__') }}",
    "filter map": "{{ messages | map(attribute='__class__') | list }}",
    "filter map attr": "{{ messages | map('attr', '__class__') | list }}",
    "filter sort": "{{ messages | sort(attribute='role.__class__') }}",
    "helper": "{{ cycler.__init__.__globals__.os }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "frames": "{{ messages.f_globals }}",
    "function": "{{ raise_exception.func_globals }}",
    "format": "{{ '{0.__class__}'.format(messages) }}",
    "format of an attribute": "{{ '{0.role}'.format(messages) }}",
}
"""Templates that reach for Python's own attributes."""

DOUBTFUL = {
    "computed": "{{ messages[a ~ b] }}",
    "computed in a block": "{% set n %}__class__{% endset %}{{ messages[n] }}",
    "computed in a variable": "{% set n = '%c%cclass' % (95, 95) %}{{ messages[n] }}",
    "computed in a namespace": (
        "{% set ns = namespace(a='') %}{% for c in ['_', '_', 'cl', 'ass'] %}{% set ns.a = ns.a ~ c %}{% endfor %}"
        "{{ messages[ns.a] }}"
    ),
    "computed bit by bit": "{% set a = '_' %}{% set a = a ~ a %}{% set b = a ~ 'class' ~ a %}{{ messages[b] }}",
    "computed by a macro": "{% macro u() %}__class__{% endmacro %}{% set k = u() %}{{ messages[k] }}",
    "computed for a macro": "{% macro f(n) %}{{ x[n] }}{% endmacro %}{{ f('%c%cclass' % (95, 95)) }}",
    "computed in a call": "{% macro m() %}{{ x[caller()] }}{% endmacro %}{% call m() %}__class__{% endcall %}",
    "computed in a loop": "{% for k in ['%c%cclass' % (95, 95)] %}{{ messages[k] }}{% endfor %}",
    "computed in a scope": "{% with k = '%c%cclass' % (95, 95) %}{{ messages | groupby(k) }}{% endwith %}",
    "computed attribute": "{{ messages | attr(name) }}",
    "part of a name": "{% for a in ['__class', 'x'] %}{{ a }}{% endfor %}",
    "unknown format": "{{ pattern.format(messages) }}",
    "unknown function": "{{ run(messages) }}",
    "unknown method": "{{ messages.execute() }}",
    "unknown filter": "{{ messages | shell }}",
    "helper": "{{ lipsum }}",
    "itself": "{{ self }}",
    "not Jinja": "{% for m in messages %}{{ m }}",
    "deep": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
}
"""Templates of which nobody can say what they do."""

GROWING = {
    "range": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "nested ranges": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "text times number": "{{ 'a' * 1000000000 }}",
    "list times number": "{{ [0] * 1000000000 }}",
    "power": "{{ 9 ** 9 ** 9 ** 9 }}",
    "doubling": "{% set n = namespace(s='ab') %}{% for m in messages %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "doublings": "{% set a = 'x' * 999 %}" + "".join(f"{{% set a{i} = a{i - 1} * 99 %}}" for i in range(1, 4)),
    "laughs": "{% set a0 = 'ha' %}" + "".join(f"{{% set a{i} = a{i - 1} ~ a{i - 1} %}}" for i in range(1, 40)),
    "recursion": "{% macro m(x) %}{{ m(x) }}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "mutual recursion": "{% macro a(x) %}{{ b(x) }}{% endmacro %}{% macro b(x) %}{{ a(x) }}{% endmacro %}{{ a(1) }}",
    "macros": "{% macro m0() %}x{% endmacro %}"
    + "".join(f"{{% macro m{i}() %}}{f'{{{{ m{i - 1}() }}}}' * 10}{{% endmacro %}}" for i in range(1, 9)),
    "macros, last first": "".join(
        f"{{% macro m{i}() %}}{f'{{{{ m{i - 1}() }}}}' * 10}{{% endmacro %}}" for i in range(8, 0, -1)
    )
    + "{% macro m0() %}x{% endmacro %}{{ m8() }}",
    "width": "{{ '%999999999d' | format(1) }}",
    "filter": "{{ 'x' | center(100000000) }}",
}
"""Templates that make more text than memory holds."""
GROWING["doublings"] = GROWING["doublings"].replace("a0 *", "a *")
