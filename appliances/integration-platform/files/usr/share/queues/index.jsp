<%@ page contentType="text/plain; charset=utf-8" trimDirectiveWhitespaces="true"
    import="java.time.Instant, java.util.TreeMap, javax.jms.*, javax.naming.InitialContext" %><%--
GET /queues/                              each queue: messages that wait, consumers, name
GET /queues/?queue=NAME                   its first 100 messages: time, id, how they begin
POST /queues/?queue=NAME&to=OTHER         move all that wait to another queue, such as back from ActiveMQ.DLQ; scripts alone
POST /queues/?queue=NAME                  remove all that wait; scripts alone
--%><%!
    private static String shown(Message message) throws JMSException {
        String text = message instanceof TextMessage ? ((TextMessage) message).getText() : message.getClass().getSimpleName();
        text = text == null ? "" : text.substring(0, Math.min(text.length(), 200));
        return text.replaceAll("\\p{Cntrl}", " ");
    }

    /** Ask the broker for its statistics (statisticsBrokerPlugin): one answer for each queue, then an empty one. */
    private static TreeMap<String, String> queues(Session session) throws JMSException {
        TreeMap<String, String> found = new TreeMap<>();
        Destination answers = session.createTemporaryQueue();
        MessageConsumer consumer = session.createConsumer(answers);
        Message question = session.createMessage();
        question.setJMSReplyTo(answers);
        String end = "ActiveMQ.Statistics.Destination.List.End.With.Null";
        session.createProducer(session.createQueue("ActiveMQ.Statistics.Destination." + end + ">")).send(question);
        while (consumer.receive(5000) instanceof MapMessage answer && answer.itemExists("destinationName")) {
            String name = answer.getString("destinationName");
            if (name.startsWith("queue://") && !name.startsWith("queue://ActiveMQ.Statistics.")) {
                found.put(name.substring(8), answer.getLong("size") + "\t" + answer.getLong("consumerCount"));
            }
        }
        return found;
    }
%><%
    String name = request.getParameter("queue"), to = request.getParameter("to");
    boolean change = request.getMethod().equals("POST");
    if (change && !request.isUserInRole("manager-script")) { response.sendError(403); return; }
    for (String given : new String[] {name, to}) {
        if (given != null && !given.matches("[^,*>?:]{1,200}") || change && name == null) { response.sendError(400); return; }
    }
    response.setHeader("Cache-Control", "no-store");
    response.setHeader("X-Content-Type-Options", "nosniff");
    Connection connection = ((ConnectionFactory) new InitialContext().lookup("java:comp/env/jms/broker")).createConnection();
    try {
        connection.start();
        Session jms = connection.createSession(change, change ? Session.SESSION_TRANSACTED : Session.AUTO_ACKNOWLEDGE);
        if (change) {
            MessageProducer producer = to == null ? null : jms.createProducer(jms.createQueue(to));
            MessageConsumer consumer = jms.createConsumer(jms.createQueue(name));
            int count = 0;
            for (Message message; (message = consumer.receive(2000)) != null; count++) {
                if (producer != null) {
                    producer.send(message, message.getJMSDeliveryMode(), message.getJMSPriority(), 0);
                }
                jms.commit();
            }
            out.println(count);
        } else if (name == null) {
            for (var queue : queues(jms).entrySet()) { out.println(queue.getValue() + "\t" + queue.getKey()); }
        } else {
            int left = 100;
            for (var all = jms.createBrowser(jms.createQueue(name)).getEnumeration(); left-- > 0 && all.hasMoreElements();) {
                Message message = (Message) all.nextElement();
                out.println(Instant.ofEpochMilli(message.getJMSTimestamp()) + "\t" + message.getJMSMessageID() + "\t" + shown(message));
            }
        }
    } finally {
        connection.close();
    }
%>
